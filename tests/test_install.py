"""Files put into the viewer's folders: nothing of theirs is ever lost, and only ours goes again."""

from __future__ import annotations

from pathlib import Path

import pytest

from drba.errors import DrbaError
from player.setup.install import put, read_record, record_path, remove_all


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / 'the "mpv" of Zoë\'s'


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_new_file_is_installed_and_removed(folder: Path) -> None:
    path = folder / "scripts" / "drba.lua"
    assert put(path, b"one").action == "installed"
    assert put(path, b"one").action == "current"
    assert path.read_bytes() == b"one"
    assert [(item.path, item.state) for item in remove_all()] == [(path, "removed")]
    assert not path.exists() and path.parent.is_dir()
    assert remove_all() == [] and not record_path().exists()


def test_an_older_one_of_ours_is_updated_without_a_backup(folder: Path) -> None:
    put(folder / "drba.lua", b"one")
    done = put(folder / "drba.lua", b"two")
    assert (done.action, done.backup) == ("updated", None)
    assert (folder / "drba.lua").read_bytes() == b"two"


@pytest.mark.parametrize("ours_first", [True, False], ids=["changed since", "never ours"])
def test_the_viewers_file_is_kept(folder: Path, ours_first: bool) -> None:
    path = folder / "drba.conf"
    if ours_first:
        put(path, b"fps=auto\n")
    write(path, "fps=60\n")
    assert put(path, b"fps=auto\n#new\n").action == "kept"
    assert path.read_text() == "fps=60\n"
    assert [item.state for item in remove_all()] == (["left"] if ours_first else [])
    assert path.read_text() == "fps=60\n"


def test_force_keeps_a_backup_each_time(folder: Path) -> None:
    path = folder / "drba.conf"
    backups = set()
    for text in ("fps=60\n", "fps=50\n"):
        write(path, text)
        done = put(path, b"fps=auto\n", force=True)
        assert done.action == "replaced" and done.backup is not None and done.backup.read_text() == text
        assert path.parent not in done.backup.parents, "mpv would load it"
        backups.add(done.backup)
    assert len(backups) == 2 and path.read_text() == "fps=auto\n"


def test_the_viewers_identical_file_stays_theirs(folder: Path) -> None:
    write(folder / "drba.lua", "one")
    assert put(folder / "drba.lua", b"one").action == "current"
    assert remove_all() == []
    assert (folder / "drba.lua").exists()


def test_a_link_is_never_written_through(folder: Path, tmp_path: Path) -> None:
    source, link = tmp_path / "checkout.lua", folder / "drba.lua"
    folder.mkdir()
    source.write_text("mine")
    link.symlink_to(source)
    assert put(link, b"mine").action == "current"
    assert put(link, b"two").action == "kept"
    assert put(link, b"two", force=True).action == "replaced"
    assert source.read_text() == "mine" and not link.is_symlink() and link.read_text() == "two"


def test_a_link_to_nowhere_is_replaced(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "drba.lua").symlink_to(tmp_path / "gone.lua")
    assert put(folder / "drba.lua", b"one").action == "updated"
    assert (folder / "drba.lua").read_text() == "one"


def test_what_the_viewer_removed_is_not_missed(folder: Path) -> None:
    put(folder / "drba.lua", b"one")
    (folder / "drba.lua").unlink()
    assert [item.state for item in remove_all()] == ["gone"]


def test_a_file_in_place_of_a_folder_is_one_clear_line(folder: Path) -> None:
    write(folder.parent / "scripts", "a file")
    with pytest.raises(DrbaError, match="cannot be made"):
        put(folder.parent / "scripts" / "drba.lua", b"one")
    assert read_record() == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"/x": 3}'])
def test_a_damaged_record_is_not_taken_for_none(folder: Path, content: str) -> None:
    write(record_path(), content)
    with pytest.raises(DrbaError, match="delete it to start anew"):
        put(folder / "drba.lua", b"one")
    assert not (folder / "drba.lua").exists()
