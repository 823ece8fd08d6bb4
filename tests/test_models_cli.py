"""The `drba models` command against a local server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from weights_server import Site, weights_server

from drba import downloads, transfer, weights
from drba.models import find
from player import models_cli
from player.cli import main

CONTENT = b"PK\x03\x04" + bytes(range(256)) * 11719  # 3.0 MB
PATH = "/HolyWu/vs-rife/releases/download/model/flownet_v4.22.pkl"
UNKNOWN = find("rife-4.22")  # a model whose public digest is not known


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"


@pytest.fixture
def site() -> Iterator[Site]:
    with weights_server() as site:
        site.files[PATH] = CONTENT
        yield site


def fetch(site: Site) -> Path:
    (part,) = downloads.fetch(UNKNOWN, base_url=site.url)
    return part.path


def test_fetch_goes_on_after_a_failure_and_says_so_in_one_line(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "rife-4.25", "rife4.22", "flow", "--mirror", site.url]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and err.startswith("drba: flownet of rife-4.25 cannot be fetched")
    assert "rife-4.22: flownet fetched (sha256:" in out and "first seen" in out and "flow: built in" in out
    assert main(["models", "fetch", "rife-4.22", "--mirror", site.url]) == 0
    assert "installed already" in capsys.readouterr().out


def test_fetch_interrupted_by_the_user(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "transfer", interrupt)
    assert main(["models", "fetch", "rife-4.22"]) == models_cli.INTERRUPTED
    assert "run the same command again" in capsys.readouterr().err


def test_unknown_names_are_refused_before_anything_is_done(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "rife-4.22", "rife-9", "--mirror", site.url]) == 2
    assert "'rife-9' does not exist" in capsys.readouterr().err
    assert not site.requests


def test_verify_reports_every_part(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify"]) == 0
    assert "no model is installed" in capsys.readouterr().out
    path = fetch(site)
    assert main(["models", "verify"]) == 0
    assert "rife-4.22: flownet ok" in capsys.readouterr().out
    path.write_bytes(CONTENT[:-1])
    assert main(["models", "verify", "rife-4.22", "gmfss"]) == 1
    out = capsys.readouterr().out
    assert "changed: expected sha256:" in out and out.count("missing; run `drba models fetch gmfss`") == 4


def test_path_prints_folders(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "path"]) == main(["models", "path", "rife"]) == 0
    assert capsys.readouterr().out.split() == [
        str(data_dir / "weights"),
        str(data_dir / "weights" / "rife-4.26.heavy"),
    ]


def test_list_shows_what_is_installed_without_torch(site: Site) -> None:
    fetch(site)
    (weights.model_dir(find("gmfss"))).mkdir()
    (weights.model_dir(find("gmfss")) / "feat.pkl").write_bytes(CONTENT)
    code = "import sys; from player.cli import main; sys.exit(main(['models', 'list']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "built in" in rows["flow"] and " no " in rows["rife-4.6"]
    assert "yes" in rows["rife-4.22"] and "3.0 MB" in rows["rife-4.22"] and "1 of 4 files" in rows["gmfss"]


def test_every_public_address_is_https() -> None:
    for spec in (find(name) for name in ("rife", "gmfss", "gmfss-union", "distil-drba-v1", "rife-4.26")):
        for part in spec.parts:
            transfer.check_url(part.url, loopback_ok=False)
            assert urlsplit(part.url).path.endswith(".pkl")
