"""The folder of built engines: nothing damaged, foreign or half written is ever handed out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drba.errors import EngineError
from engines import engine_cache
from engines.engine_cache import EngineCache

KEY = {"builder": "b", "fingerprint": "1.0, card", "part": "render", "height": 128}
OTHER = {**KEY, "height": 256}


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_what_was_put_comes_back_also_in_another_process(cache: EngineCache) -> None:
    cache.put(KEY, b"engine")
    cache.put(OTHER, b"")
    assert cache.get(KEY) == b"engine" and cache.get(OTHER) == b""
    assert EngineCache(cache.folder).get(KEY) == b"engine"
    cache.put(KEY, b"newer")
    assert cache.get(KEY) == b"newer"
    assert [entry.key for entry in cache.entries()] == [OTHER, KEY]


@pytest.mark.parametrize("name", KEY)
def test_any_other_value_in_the_key_is_another_entry(cache: EngineCache, name: str) -> None:
    cache.put(KEY, b"engine")
    assert cache.get({**KEY, name: "something else"}) is None


@pytest.mark.parametrize(
    ("damage", "suffix"),
    [
        (lambda path: path.write_bytes(b"Engine"), ".bin"),
        (lambda path: path.write_bytes(b"engi"), ".bin"),
        (lambda path: path.unlink(), ".bin"),
        (lambda path: path.chmod(0o666), ".bin"),
        (lambda path: (path.rename(path.with_suffix(".x")), path.symlink_to(path.with_suffix(".x"))), ".bin"),
        (lambda path: path.write_text("{"), ".json"),
        (lambda path: path.write_text('{"key": {}, "sha256": 1}'), ".json"),
        (lambda path: path.write_text(path.read_text().replace("128", "129")), ".json"),
    ],
    ids=["flipped", "truncated", "gone", "others may write", "a link", "no JSON", "no manifest", "another key's"],
)
def test_damaged_entries_are_absent_and_removed(cache: EngineCache, damage: object, suffix: str) -> None:
    cache.put(KEY, b"engine")
    (manifest,) = cache.folder.glob("*.json")
    assert callable(damage)
    damage(manifest.with_suffix(suffix))
    assert cache.get(KEY) is None
    assert not manifest.exists() and not manifest.with_suffix(".bin").exists()
    cache.put(KEY, b"again")
    assert cache.get(KEY) == b"again"


def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_used(cache: EngineCache) -> None:
    """Killed at its first fsync, when bytes are written and have no name yet."""
    cache.put(KEY, b"before")
    code = f"""
import os, signal, pathlib
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
from engines.engine_cache import EngineCache
EngineCache(pathlib.Path({str(cache.folder)!r})).put({OTHER!r}, b"half" * 1000)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    assert list(cache.folder.glob("*.tmp"))
    assert cache.get(OTHER) is None and cache.get(KEY) == b"before"
    for leftover in cache.folder.glob("*.tmp"):
        os.utime(leftover, (0, 0))
    cache.put(OTHER, b"whole")
    assert cache.get(OTHER) == b"whole" and not list(cache.folder.glob("*.tmp"))


def test_between_its_two_files_an_entry_is_not_there(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is written last: contents alone, or new contents beside an old manifest, are nothing."""
    cache.put(KEY, b"before")
    write = engine_cache.write_whole

    def only_contents(path: Path, content: bytes, mode: int) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        write(path, content, mode)

    monkeypatch.setattr(engine_cache, "write_whole", only_contents)
    for key in (KEY, OTHER):
        with pytest.raises(KeyboardInterrupt):
            cache.put(key, b"after")
    monkeypatch.undo()
    assert cache.get(KEY) is None and cache.get(OTHER) is None


def aged(cache: EngineCache, seconds: dict[str, int]) -> None:
    for entry in cache.entries():
        os.utime(entry.manifest, (seconds[entry.key["part"]],) * 2)


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines", limit_bytes=30)
    for part in "abc":
        cache.put({"part": part}, b"x" * 10)
    aged(cache, {"a": 100, "b": 200, "c": 300})
    assert cache.get({"part": "a"})  # now the most recently used one
    cache.put({"part": "d"}, b"x" * 10)
    assert sorted(entry.key["part"] for entry in cache.entries()) == ["a", "c", "d"]
    cache.put({"part": "e"}, b"x" * 100)  # larger than everything: kept alone, since it was just asked for
    assert [entry.key["part"] for entry in cache.entries()] == ["e"]


def test_engines_in_use_are_not_evicted_by_any_process(tmp_path: Path) -> None:
    mine, others = (EngineCache(tmp_path / "engines", limit_bytes=20) for _ in range(2))
    for part in "ab":
        mine.put({"part": part}, b"x" * 10)
    aged(mine, {"a": 100, "b": 200})
    mine.hold({"part": "a"})
    others.put({"part": "c"}, b"x" * 10)
    assert sorted(entry.key["part"] for entry in mine.entries()) == ["a", "c"]


def test_a_folder_that_others_can_write_is_refused(cache: EngineCache) -> None:
    cache.put(KEY, b"engine")
    for mode in (0o777, 0o750):
        cache.folder.chmod(mode)
        for action in (lambda: cache.get(KEY), lambda: cache.put(KEY, b"x")):
            with pytest.raises(
                EngineError, match=f"has mode {mode:04o}, expected 0700: engines are code; chmod 700 it"
            ):
                action()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be written") as caught:
        EngineCache(tmp_path / "file" / "engines").put(KEY, b"x")
    assert "\n" not in str(caught.value)


def test_the_cache_folder_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path))
    EngineCache().put(KEY, b"x")
    assert list((tmp_path / "engines").glob("*.bin"))


def _put_often(folder: Path, content: bytes) -> None:
    cache = EngineCache(folder)
    for _ in range(50):
        cache.put(KEY, content)


def test_two_processes_that_write_one_key_never_leave_a_mixture(tmp_path: Path) -> None:
    contents = [b"first" * 100, b"second" * 100]
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_put_often, args=(tmp_path / "engines", content)) for content in contents]
    for writer in writers:
        writer.start()
    cache, seen = EngineCache(tmp_path / "engines"), 0
    while any(writer.is_alive() for writer in writers):
        found = cache.get(KEY)
        assert found in contents or (found is None and not seen)
        seen += found is not None
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert cache.get(KEY) in contents


def test_only_one_process_builds_at_a_time(cache: EngineCache) -> None:
    other = EngineCache(cache.folder)  # file locks tell open files apart, so this is like another process
    order: list[str] = []
    asked = threading.Event()

    def second() -> None:
        with other.building(asked.set):
            order.append("second")

    with cache.building(lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert asked.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_waiting_for_another_process_can_be_given_up(cache: EngineCache) -> None:
    class GivenUp(Exception):
        pass

    def give_up() -> None:
        raise GivenUp

    with cache.building(give_up), pytest.raises(GivenUp), EngineCache(cache.folder).building(give_up):
        raise AssertionError("two builds at once")
    with cache.building(give_up):  # the lock is free again
        pass
