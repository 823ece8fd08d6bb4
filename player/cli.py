"""The `drba` command: tools around the player."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import drba
from drba.errors import DrbaError

#: Each command's module here, whose `add_parser` declares it. Only the one that is asked for is imported: mpv's viewer waits
#: for `drba bridge`.
COMMANDS = {
    "setup": "setup.command",
    "doctor": "setup.doctor",
    "uninstall-script": "setup.command",
    "models": "models_cli",
    "engines": "engines_cli",
    "bench": "bench.command",
    "pair": "pair_cli",
    "status": "server_cli",
    "stop": "server_cli",
    "logs": "server_cli",
    "completion": "completion",
    "bridge": "bridge",
}
INTERRUPTED = 130  # as shells say it
EPILOG = (
    "New here? `drba setup` does all that is needed once; `drba doctor` says what is wrong and what to do about it."
)


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The whole parser, or that of the one command that will be run."""
    parser = argparse.ArgumentParser(
        "drba", description="Tools around drba-player: in-between frames for films in mpv.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"drba-player {drba.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    modules = [COMMANDS[command]] if command in COMMANDS else list(dict.fromkeys(COMMANDS.values()))
    for module in modules:
        importlib.import_module(f".{module}", __package__).add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = make_parser(given[0] if given else None).parse_args(given)
    try:
        return int(arguments.run(arguments))
    except DrbaError as error:
        print(f"drba: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("drba: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
