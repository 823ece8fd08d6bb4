"""A film rendered on a Ray cluster is the same film, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drba.errors import InputError, MediaError, ServerError
from player.cluster import MAX_ATTEMPTS, Cluster, Share, check_address

pytest.importorskip("ray", reason="Ray is not installed: rendering on a cluster is not tested")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("local") as running:
        yield running


def _square(number: int) -> int:
    return number * number


def _die_once(mark: str) -> str:
    """The first call of each mark kills its worker, as the system does when memory ends."""
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def _die(mark: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail(words: str) -> None:
    raise MediaError(words)


def never(item: object, attempts: int) -> None:
    raise AssertionError(f"the worker of {item} died")


def test_every_item_is_answered_once(cluster: Cluster) -> None:
    answers = dict(cluster.run(_square, range(9), Share(), never))
    assert answers == {number: number * number for number in range(9)}


def test_work_of_a_dead_worker_is_done_again(cluster: Cluster, tmp_path: Path) -> None:
    deaths: list[tuple[str, int]] = []
    marks = [str(tmp_path / name) for name in "abc"]
    answers = dict(cluster.run(_die_once, marks, Share(), lambda item, attempts: deaths.append((item, attempts))))
    assert answers == {mark: Path(mark).name for mark in marks}
    assert sorted(deaths) == [(mark, 1) for mark in marks]


def test_work_that_kills_every_worker_is_given_up(cluster: Cluster) -> None:
    deaths: list[int] = []
    with pytest.raises(ServerError, match=f"workers died {MAX_ATTEMPTS} times"):
        list(cluster.run(_die, ["x"], Share(), lambda _, attempts: deaths.append(attempts)))
    assert deaths == list(range(1, MAX_ATTEMPTS))


def test_what_a_worker_says_reaches_the_user_as_it_is(cluster: Cluster) -> None:
    with pytest.raises(MediaError, match=r"^film\.mkv: cannot be opened$"):
        list(cluster.run(_fail, ["film.mkv: cannot be opened"], Share(), never))


def test_rays_own_messages_do_not_reach_standard_output(cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    pass


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379", ""])
def test_an_address_is_local_or_rays(address: str) -> None:
    with pytest.raises(InputError, match="expected 'local' or the address of a Ray head"):
        check_address(address)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'drba-player\[cluster\]'"):
        check_address("local")
