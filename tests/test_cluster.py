"""A film rendered on a Ray cluster is the same film, also where a worker is killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import clips
import pytest

import player.cluster
from drba.errors import InputError, MediaError, ServerError
from engines import open_renderer
from player.cluster import Cluster, Share, check_address
from player.render import distribute
from player.render.choose_encoder import EncoderWishes
from player.render.distribute import Distribution, settled_on
from player.render.job import RenderJob
from player.render.pipeline import Pipeline, scan
from player.render.prepare import RenderRequest, make_job
from player.render.progress import Counts
from player.render.segments import Segment, split
from player.source import VideoSource

pytest.importorskip("ray", reason="Ray is not installed: rendering on a cluster is not tested")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parent  # workers import the functions of this module
        patch.setenv("PYTHONPATH", f"{here}:{here.parent}")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder
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
    marks = [str(tmp_path / name) for name in "ab"]
    answers = dict(cluster.run(_die_once, marks, Share(), lambda item, attempts: deaths.append((item, attempts))))
    assert answers == {mark: Path(mark).name for mark in marks}
    assert sorted(deaths) == [(mark, 1) for mark in marks]


def test_work_that_kills_every_worker_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player.cluster, "MAX_ATTEMPTS", 2)
    deaths: list[int] = []
    with pytest.raises(ServerError, match="workers died 2 times"):
        list(cluster.run(_die, ["x"], Share(), lambda _, attempts: deaths.append(attempts)))
    assert deaths == [1]


def test_what_a_worker_says_reaches_the_user_as_it_is(cluster: Cluster) -> None:
    with pytest.raises(MediaError, match=r"^film\.mkv: cannot be opened$"):
        list(cluster.run(_fail, ["film.mkv: cannot be opened"], Share(), never))


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379", ""])
def test_an_address_is_local_or_rays(address: str) -> None:
    with pytest.raises(InputError, match="expected 'local' or the address of a Ray head"):
        check_address(address)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'drba-player\[cluster\]'"):
        check_address("local")


# --- a film -----------------------------------------------------------------------------------------------------------


def job_of(path: Path) -> RenderJob:
    source = VideoSource(str(path))
    wishes = EncoderWishes(codec="libx264", preset="ultrafast")
    job, _ = make_job(RenderRequest(str(path), fps="60", encoder=wishes, segment_frames=30), source)
    source.close()
    return replace(job, model="flow", engine="cpu")


def rendered_here(job: RenderJob, folder: Path) -> list[Segment]:
    source = job.open_source()
    renderer = open_renderer(job.spec(source.info))
    segments = Pipeline(job, source, renderer, folder, Counts(), threading.Event()).run(job.first)
    renderer.close()
    source.close()
    return segments


def rendering_workers() -> list[int]:
    """Processes of this user's Ray workers that render a segment now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::render_segment"):
                found.append(int(folder.name))
    return found


def test_a_film_is_the_same_when_one_of_two_workers_is_killed(
    cluster: Cluster, clip_folder: Path, tmp_path: Path
) -> None:
    job = job_of(clips.standard(clip_folder).path)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    expected = rendered_here(job, here)
    said: list[str] = []
    killed: list[int] = []
    reported, ended = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        reported.set()

    def kill_one() -> None:
        while not (reported.is_set() or ended.wait(0.01)):
            for pid in rendering_workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                reported.wait(5)  # not reported: it had just finished its segment, so another one has to die

    distribution = Distribution(cluster, job, say)
    segments = distribution.segments()
    killer = threading.Thread(target=kill_one)
    killer.start()
    counts = Counts()
    try:
        distribution.render(segments, there, counts)
    finally:
        ended.set()
        killer.join()
    assert len(segments) >= 3 and segments == expected
    assert killed and said and all("is done again" in line for line in said)
    assert counts.frames == segments[-1].end
    for segment in segments:
        assert frames_of(there / segment.file_name) == frames_of(here / segment.file_name)


def frames_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def test_scenes_found_in_many_stretches_are_those_of_one_pass(
    cluster: Cluster, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job_of(clips.with_cut(clip_folder).path), segment_frames=30)
    source = job.open_source()
    expected = split(0, *reversed(scan(job, source)), 30)
    source.close()
    monkeypatch.setattr(distribute, "SCAN_S", 0.4)
    assert Distribution(cluster, job, print).segments() == expected
    cut = next(segment for segment in expected if segment.first == 331)
    assert cut.first - expected[expected.index(cut) - 1].first < 60


def test_a_film_that_a_worker_cannot_reach_is_one_line(cluster: Cluster, tmp_path: Path, clip_folder: Path) -> None:
    job = job_of(clips.standard(clip_folder).path)
    source = job.open_source()
    source.close()
    with pytest.raises(InputError, match=r"elsewhere\.mkv: no such file on .*; a cluster's machines need the film"):
        settled_on(cluster, str(tmp_path / "elsewhere.mkv"))(job.spec(source.info))
