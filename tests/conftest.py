"""Every test runs against a server of its own, in a private runtime folder, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.client import stop_server


def pytest_configure() -> None:
    """Of several processes each has one core: also for what they start."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            os.environ.setdefault(name, "1")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where generated clips are kept for the whole run."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session", autouse=True)
def _private_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    os.environ["DRBA_RUNTIME_DIR"] = str(folder)
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    # As if the package had no network: what plays must not depend on how fast this machine is just now.
    os.environ["DRBA_SHIPPED_DIR"] = str(tmp_path_factory.mktemp("shipped"))
    yield
    stop_server()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks on one thread: frames of tests are so small that threads mostly wait for each other, tenfold on a machine that
    others use too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
