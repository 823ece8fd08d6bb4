"""What README and docs/ say exists: links, pictures, files, commands, options, keys."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from drba.weights import SHIPPED_DIR_ENV
from player.cli import make_parser as drba_parser
from player.play import make_parser as player_parser
from player.render_cli import make_parser as render_parser
from server.main import make_parser as server_parser
from training.arguments import make_parser as training_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
PICTURES = ROOT / "docs" / "pictures"
PICTURE_MAX_BYTES, PICTURES_MAX_BYTES = 200 << 10, 1536 << 10
PARSERS = {
    "drba": drba_parser,
    "drba-player": player_parser,
    "drba-render": render_parser,
    "drba-server": server_parser,
}
#: What stands for a value in a page: something that the parser takes.
VALUES = {"T": "1:00", "N": "3", "SIZE": "720p", "S": "1"}
OPTIONS_OF_MPV = {"--script-opts"}
FILE = re.compile(r"[\w./-]*\w\.(?:py|md|lua|cu|cpp|toml)")
FOLDERS = ("benchmarks", "docs", "drba", "engines", "mpv-scripts", "player", "server", "tests", "tools", "training")


def by_name(page: Path) -> str:
    return page.name


each_page = pytest.mark.parametrize("page", PAGES, ids=by_name)


# --- reading a page ---------------------------------------------------------------------------------------------------


def code_lines(text: str) -> Iterator[str]:
    """Lines of fenced and of indented blocks."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def spans(text: str) -> Iterator[str]:
    """What stands in backticks in running text, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", prose):
        for span in re.findall(r"`([^`]+)`", paragraph):
            yield " ".join(span.split())


def commands(text: str) -> Iterator[list[str]]:
    """Every command line of our programs, as words, without comments, redirections and what goes to mpv."""
    for line in (*code_lines(text), *spans(text)):
        for part in re.split(r"&&|\||;", re.sub(r"\s#.*", "", line)):
            try:
                words = shlex.split(part.replace("[", "").replace("]", ""))
            except ValueError:  # prose with an apostrophe
                continue
            words = words[1:] if words[:1] == ["$"] else words
            if not words or Path(words[0]).name not in PARSERS or "..." in words or "…" in part:
                continue
            for end in (">", "--"):
                words = words[: words.index(end)] if end in words else words
            yield [Path(words[0]).name, *(VALUES.get(word, word) for word in words[1:])]


def named_options(text: str) -> Iterator[str]:
    """Options in backticks that no other program's command line contains."""
    for span in spans(text):
        words = span.partition(" -- ")[0].split()
        if words[0].startswith("-") or words[0] in PARSERS:
            yield from (word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word))


# --- what there is ----------------------------------------------------------------------------------------------------


def parsers_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers_below(below)


@cache
def our_options() -> frozenset[str]:
    makers = [*PARSERS.values(), training_parser]
    everything = [parser for make in makers for parser in parsers_below(make())]
    return frozenset(option for parser in everything for option in parser._option_string_actions)


def is_group(words: list[str]) -> bool:
    """Whether words name a program or commands that have further ones below them: `drba models`."""
    parser: argparse.ArgumentParser = PARSERS[words[0]]()
    for word in words[1:]:
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not below or word not in below[0].choices:
            return False
        parser = below[0].choices[word]
    return True


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- tests ------------------------------------------------------------------------------------------------------------


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links {target}, and there is no such heading"


def test_every_picture_is_shown_and_small() -> None:
    shown = {
        (page.parent / target).resolve() for page in PAGES for target in re.findall(r"\]\(([^)]+)\)", page.read_text())
    }
    files = {path for path in PICTURES.iterdir() if path.is_file()}
    assert files <= shown, f"in docs/pictures and on no page: {sorted(path.name for path in files - shown)}"
    large = [path.name for path in files if path.stat().st_size > PICTURE_MAX_BYTES]
    assert not large
    assert sum(path.stat().st_size for path in files) <= PICTURES_MAX_BYTES


@each_page
def test_every_command_line_is_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page.read_text()):
        if is_group(words):
            continue
        try:
            PARSERS[words[0]]().parse_args(words[1:])
        except SystemExit as end:
            assert end.code == 0, f"{page.name}: {shlex.join(words)}\n{capsys.readouterr().err}"


def test_commands_are_found_in_pages() -> None:
    """That the tests above look at something."""
    found = {words[0] for page in PAGES for words in commands(page.read_text())}
    assert found == set(PARSERS)
    assert ["drba", "engines", "build", "rife-4.26.heavy", "1920x1080"] in list(
        commands((ROOT / "README.md").read_text())
    )


@each_page
def test_every_option_exists(page: Path) -> None:
    unknown = set(named_options(page.read_text())) - our_options() - OPTIONS_OF_MPV
    assert not unknown, f"{page.name} names {sorted(unknown)}"


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    """By its path or the end of it."""
    there = {f"/{path.relative_to(ROOT).as_posix()}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}
    there |= {f"/{path.name}" for path in ROOT.iterdir()} | {"/config.toml"}  # the viewer's own
    for span in spans(page.read_text()):
        if FILE.fullmatch(span):
            assert any(path.endswith(f"/{span}") for path in there), f"{page.name} names {span}"


def test_the_map_names_modules_that_exist() -> None:
    rows = re.findall(
        r"^\| (`\w[^|]*/`[^|]*) \|[^|]*\|([^|]*)\|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 8
    for first, last in rows:
        folders = re.findall(r"`([\w/-]+)`", first)
        for module in re.findall(r"`(\w+)`", last):
            assert any((ROOT / folder / f"{module}.py").exists() for folder in folders), f"{module} in {folders}"


def test_keys_in_pages_are_those_of_the_script() -> None:
    script = (ROOT / "mpv-scripts" / "drba.lua").read_text()
    bound = set(re.findall(r"mp\.add_(?:forced_)?key_binding\([^,]+,\s*\"([\w-]+)\"", script))
    named = {name for page in PAGES for name in re.findall(r"script-binding drba/([\w-]+)", page.read_text())}
    assert named <= bound, f"{sorted(named - bound)} of {sorted(bound)}"


def test_the_pictures_of_drm_can_be_drawn_again(tmp_path: Path) -> None:
    script = ROOT / "docs" / "make_drm_pictures.py"
    environment = {
        name: value for name, value in os.environ.items() if name != SHIPPED_DIR_ENV
    }  # with the package's network
    command = [sys.executable, script, tmp_path, "--height", "180"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in PICTURES.glob("*.jpg")}


def test_readme_has_the_two_commands() -> None:
    lines = [line.split("#")[0].strip() for line in code_lines((ROOT / "README.md").read_text())]
    assert "make demo" in lines and "make test" in lines
