"""Folders, patterns and several films at once: names are kept, what is there is skipped, one failure does not stop the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import clips
import pytest

from drba.errors import InputError, MediaError
from player.render.batch import FAILED, INTERRUPTED, render_all
from player.render.films import Films, plan_films
from player.render.progress import Counts

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def season(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with films (empty files) and other things in `season`."""
    folder = tmp_path / "season"
    folder.mkdir()
    for name in ("e10.mkv", "e02.mp4", "E01.WEBM", "[x] e03.mkv", ".hidden.mkv", "cover.jpg", "e02.ass"):
        (folder / name).touch()
    (folder / "extras.mkv").mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["season"], {"E01.WEBM": "E01.mkv", "[x] e03.mkv": "", "e02.mp4": "", "e10.mkv": ""}),
        (["season/*.mkv"], {"[x] e03.mkv": "", "e10.mkv": ""}),
        (["season/e?0.*"], {"e10.mkv": ""}),
        (["season/e10.mkv", "season/e02.mp4"], {"e10.mkv": "", "e02.mp4": ""}),
        (["season/[x] e03.mkv"], {"[x] e03.mkv": ""}),  # brackets in a name are no pattern
        (["season/e02.mp4", "season"], {"e02.mp4": "", "E01.WEBM": "E01.mkv", "[x] e03.mkv": "", "e10.mkv": ""}),
    ],
)
def test_films_keep_their_names_in_the_other_folder(season: Path, sources: list[str], expected: dict[str, str]) -> None:
    films = plan_films(sources, "out/")
    assert films.many
    assert films.pairs == tuple((f"season/{name}", Path("out") / (kept or name)) for name, kept in expected.items())


def test_one_film_with_a_files_name_as_output_is_no_folder(season: Path) -> None:
    assert plan_films(["season/e10.mkv"], "out.mp4") == Films((("season/e10.mkv", Path("out.mp4")),))


@pytest.mark.parametrize(
    ("sources", "output", "words"),
    [
        (["season/*.avi"], "out/", "season/*.avi: no file has such a name"),
        (["season/extras.mkv"], "out/", "season/extras.mkv: no film in this folder"),
        (["season/e10.mkv", "season/e11.mkv"], "out/", "season/e11.mkv: no such file"),
        (["season"], "out.mkv", "out.mkv: the output of 4 films must be a folder"),
        (["season"], "season/", "season/: the sources' own folder"),
        (
            ["season/e10.mkv", "other/e10.mkv"],
            "out",
            "out/e10.mkv: would be the output of season/e10.mkv and of other/",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_line(season: Path, sources: list[str], output: str, words: str) -> None:
    (season.parent / "other").mkdir()
    (season.parent / "other" / "e10.mkv").touch()
    with pytest.raises(InputError, match="^" + re.escape(words)):
        plan_films(sources, output)


# --- one after the other ----------------------------------------------------------------------------------------------


class Heard:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.failures: list[str] = []
        self.films: list[tuple[int, int, int]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def film(self, number: int, count: int, skipped: int) -> None:
        self.films.append((number, count, skipped))

    def begin(self, output: str, before: int, total: int, model: str, engine: str) -> None: ...
    def update(self, counts: Counts) -> None: ...
    def stopped(self, counts: Counts, text: str) -> None: ...
    def done(self, counts: Counts) -> None: ...

    def failed(self, text: str) -> None:
        self.failures.append(text)


def films_in(folder: Path, names: str) -> Films:
    return Films(tuple((name, folder / "out" / name) for name in names), many=True)


def test_a_failure_does_not_stop_the_rest_and_is_told_at_the_end(tmp_path: Path) -> None:
    def render_one(source: str, output: Path) -> int:
        if source == "b":
            raise MediaError("no frame of its video can be decoded")
        if source == "c":
            raise ZeroDivisionError("division by zero")
        output.touch()
        return 0

    heard = Heard()
    assert render_all(films_in(tmp_path, "abcd"), heard, render_one, force=False) == FAILED
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "d"]
    assert heard.failures == ["b: no frame of its video can be decoded", "c: ZeroDivisionError: division by zero"]
    assert heard.notes == ["4 films: 2 rendered, 0 there already, 2 failed: b, c"]


@pytest.mark.parametrize(("force", "rendered"), [(False, ["a", "c"]), (True, ["a", "b", "c"])])
def test_what_is_there_is_skipped_unless_forced(tmp_path: Path, force: bool, rendered: list[str]) -> None:
    films = films_in(tmp_path, "abc")
    (tmp_path / "out").mkdir()
    films.pairs[1][1].touch()
    heard, done = Heard(), []

    def render_one(source: str, output: Path) -> int:
        done.append(source)
        return 0

    assert render_all(films, heard, render_one, force=force) == 0
    assert done == rendered
    assert heard.films == ([(1, 3, 0), (2, 3, 0), (3, 3, 0)] if force else [(1, 3, 0), (3, 3, 1)])
    assert (f"{films.pairs[1][1]} exists already: skipped; --force renders it again" in heard.notes) is not force


def test_ctrl_c_ends_the_whole(tmp_path: Path) -> None:
    done = []

    def render_one(source: str, output: Path) -> int:
        done.append(source)
        return INTERRUPTED

    assert render_all(films_in(tmp_path, "abc"), Heard(), render_one, force=False) == INTERRUPTED
    assert done == ["a"]


# --- the command ------------------------------------------------------------------------------------------------------


def tiny(folder: Path) -> Path:
    return clips.cached(folder, "episode.mkv", replace(clips.SMALL, seconds=1.25, width=96, height=64)).path


def drba_render(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "player.render_cli", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90)


def test_a_folder_with_a_broken_film_in_it(tmp_path: Path, clip_folder: Path) -> None:
    folder, out = tmp_path / "season", tmp_path / "smooth"
    folder.mkdir()
    for number in (1, 3):
        os.link(tiny(clip_folder), folder / f"e{number}.mkv")
    (folder / "e2.mkv").write_text("This is not a film.")
    options = ("--fps", "2x", "--preset", "ultrafast", "--json-progress")
    first = drba_render(folder, "-o", out, *options)
    assert first.returncode == FAILED and "Traceback" not in first.stderr
    events = [json.loads(line) for line in first.stdout.splitlines()]
    assert [event["film"] for event in events if event["event"] == "done"] == [1, 3]
    assert {event["films"] for event in events if event["event"] == "done"} == {3}
    assert next(event["text"] for event in events if event["event"] == "failed").startswith(str(folder / "e2.mkv"))
    assert events[-1]["text"].startswith("3 films: 2 rendered, 0 there already, 1 failed")
    assert sorted(path.name for path in out.iterdir()) == ["e1.mkv", "e3.mkv"]
    (folder / "e2.mkv").unlink()
    second = drba_render(folder, "-o", out, *options)
    assert second.returncode == 0
    assert json.loads(second.stdout.splitlines()[-1])["text"] == "2 films: 0 rendered, 2 there already, 0 failed"


def test_a_preview_is_named_after_the_output(tmp_path: Path, clip_folder: Path) -> None:
    clip = tiny(clip_folder)
    assert drba_render(clip, tmp_path / "film.mkv", "--fps", "60", "--preview", "0:00.5").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["film.preview.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.mkv", "out.mkv"), "nowhere.mkv: no such file"),
        (("a.mkv", "b.mkv", "c.mkv"), "a.mkv: no such file"),
        (("tests/", "-o", "out/"), "tests/: no film in this folder"),
        (("tests/clips.py", "out.mkv", "--cluster", "auto"), "cluster 'auto': expected 'local' or the address"),
        (("tests/clips.py", "out.mkv", "--cluster", "local", "--server"), "--cluster and --server were both given"),
        (("tests/clips.py", "out.mkv", "--preview", "noon"), "expected a time in seconds or H:MM:SS"),
        (("a.mkv", "b.mkv", "c.mkv", "--preview", "3"), "--preview draws one film; 2 were given"),
    ],
)
def test_a_wrong_command_is_one_clear_line(arguments: tuple[str, ...], words: str) -> None:
    done = drba_render(*arguments)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
