"""`drba completion`: scripts that make shells complete our commands, generated from the parsers by shtab.

The script is static: completing starts no program of ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from drba.errors import DrbaError

PROGRAMS = ("drba", "drba-player", "drba-render", "drba-server")
SHELLS = ("bash", "zsh", "fish")
DESCRIPTION = "Prints a script that lets a shell complete the commands, options and model names of a program with Tab."
EPILOG = """\
Install it once, and again after an update:
  bash  drba completion bash > ~/.local/share/bash-completion/completions/drba
  zsh   drba completion zsh > ~/.zfunc/_drba        (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  fish  drba completion fish > ~/.config/fish/completions/drba.fish
The same for the player: drba completion bash drba-player > ~/.local/share/bash-completion/completions/drba-player"""
#: Arguments that name files, by what help calls them.
FILES, FOLDERS = {"FILE", "FILE|URL", "CLIP", "PATH", "SOCKET", "IN", "OUT", "IN OUT"}, {"DIR"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "completion",
        help="print a script that completes commands in bash, zsh or fish",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.add_argument("program", choices=PROGRAMS, nargs="?", default="drba", help="(default: %(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    print(script(arguments.shell, arguments.program))
    return 0


def script(shell: str, program: str) -> str:
    """The completion script of one of PROGRAMS for one of SHELLS."""
    try:
        import shtab
    except ImportError as error:
        raise DrbaError("shtab is missing from this installation; pip install shtab") from error
    parser = _parsers()[program]()
    _teach(parser)
    return str(shtab.complete(parser, shell))


def _parsers() -> dict[str, Callable[[], argparse.ArgumentParser]]:
    from server.main import make_parser as server_parser

    from .cli import make_parser as drba_parser
    from .play import make_parser as player_parser
    from .render_cli import make_parser as render_parser

    parsers = (drba_parser, player_parser, render_parser, server_parser)
    return dict(zip(PROGRAMS, parsers, strict=True))


def _teach(parser: argparse.ArgumentParser) -> None:
    """Tell shtab what an argument may be where argparse does not say so: models, engines, files."""
    import shtab

    from drba.models import models
    from engines import ENGINES

    names = [spec.name for spec in models()]
    choices = {
        "model": ["auto", *names],
        "names": names,
        "name": names,
        "engine": ["auto", *(engine.name for engine in ENGINES)],
    }
    for action in _actions(parser):
        if action.choices is None and action.dest in choices:
            action.choices = choices[action.dest]
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for listed in action._choices_actions:  # what shells show beside a command: its line, not its whole text
                action.choices[listed.dest].description = listed.help
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action
