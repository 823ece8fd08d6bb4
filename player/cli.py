"""The `drba` command: tools around the player."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import drba
from drba.errors import DrbaError

from . import bench, bridge, engines_cli, models_cli


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("drba", description="Tools of drba-player.")
    parser.add_argument("--version", action="version", version=f"drba-player {drba.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    bridge.add_parser(subparsers)
    bench.add_parser(subparsers)
    models_cli.add_parser(subparsers)
    engines_cli.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except DrbaError as error:
        print(f"drba: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
