"""`drba-player`: a libmpv window with the viewer's own mpv configuration, and drba.lua in it."""

from __future__ import annotations

import argparse
import locale
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import drba
from drba.errors import DrbaError, InputError

from . import options, paths
from .report import Report
from .setup import mpv_config
from .source import check_input

SAMPLE_INTERVAL_S = 0.1
DESCRIPTION = """\
Play films in a window of mpv's own (libmpv, with your mpv configuration) with in-between frames that keep the animators'
rhythm. To have the same in every mpv: drba setup."""
EPILOG = """\
Everything after -- goes to mpv: drba-player film.mkv -- --fs --start=60. In the window, D turns DRBA off and on.
Defaults can be set in {config}."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "drba-player",
        description=DESCRIPTION,
        epilog=EPILOG.format(config=options.config_path()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", metavar="FILE|URL", help="what to play, in this order")
    options.add_arguments(parser)
    parser.add_argument("--off", action="store_true", help="start with DRBA off; D turns it on")
    parser.add_argument("--demo", action="store_true", help="play a clip that the program draws itself")
    parser.add_argument("--report", metavar="FILE", help="write what happened as JSON at the end")
    parser.add_argument("--version", action="version", version=f"drba-player {drba.__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if argv is None else argv)
    own, mpv_arguments = given, []
    if "--" in given:
        cut = given.index("--")
        own, mpv_arguments = given[:cut], given[cut + 1 :]
    parser = make_parser()
    arguments = parser.parse_args(own)
    try:
        values = options.resolve(arguments, options.load_config())
        if not arguments.files and not arguments.demo:
            raise InputError("nothing to play; give a file or URL, or --demo")
        for path in arguments.files:
            check_input(path)
        options.check_choices(values)
        mpv_options = build_mpv_options(values, mpv_arguments, start=not arguments.off)
        if arguments.demo:
            return _play_demo(arguments, mpv_options)
        return play(arguments.files, mpv_options, arguments.report)
    except DrbaError as error:
        print(f"drba-player: {error}", file=sys.stderr)
        return error.exit_status


def build_mpv_options(
    values: dict[str, options.Value], mpv_arguments: Iterable[str], *, start: bool
) -> list[tuple[str, str]]:
    """mpv options in order: what makes libmpv behave like the mpv program, the viewer's, then the script and its options."""
    interactive = "yes" if sys.stdin.isatty() else "no"
    built = [
        ("config", "yes"),
        ("idle", "once"),
        ("terminal", "yes"),
        ("input-terminal", interactive),
        ("osc", "yes"),
        ("input-default-bindings", "yes"),
        ("input-vo-keyboard", "yes"),
        ("ytdl", "yes"),
        ("force-window", "no"),
    ]
    if not sys.stdout.isatty():
        built.append(("term-status-msg", ""))
    built += [parse_mpv_argument(argument) for argument in mpv_arguments]
    script_values = {**values, "auto": "always" if start else "no", "remember": start, "command": paths.drba_program()}
    built += [("script-opts-append", entry) for entry in options.script_options(script_values)]
    if not mpv_config.script_installed():  # else the viewer's mpv loads it by itself
        built.append(("scripts-append", str(paths.lua_script())))
    return built


def parse_mpv_argument(argument: str) -> tuple[str, str]:
    """`--name=value`, `--name` (yes) or `--no-name` as a pair; InputError for anything else."""
    if not argument.startswith("--") or len(argument) < 3:
        raise InputError(
            f"{argument!r} after --: expected an mpv option such as --fs or --start=60; files go before --"
        )
    name, equals, value = argument[2:].partition("=")
    if name == "script":
        return "scripts-append", value
    if equals:
        return name, value
    if name.startswith("no-"):
        return name[3:], "no"
    return name, "yes"


def play(files: Sequence[str], mpv_options: list[tuple[str, str]], report_path: str | None) -> int:
    """Play until mpv quits; the exit status."""
    report = Report()
    failed = _run_mpv(files, mpv_options, report)
    if report_path:
        try:
            report.write(Path(report_path))
        except OSError as error:
            raise InputError(f"{report_path}: the report cannot be written ({error.strerror})") from error
    print(report.summary())
    return 2 if failed and failed == len(files) else 0


def _play_demo(arguments: argparse.Namespace, mpv_options: list[tuple[str, str]]) -> int:
    clip = paths.demo_clip()
    if not paths.has_display():
        print("no display: playing to mpv's null output")
        mpv_options = [*mpv_options, ("vo", "null"), ("ao", "null")]
    return play([str(clip), *arguments.files], mpv_options, arguments.report)


def _run_mpv(files: Sequence[str], mpv_options: list[tuple[str, str]], report: Report) -> int:
    """Returns how many of the files could not be played."""
    locale.setlocale(locale.LC_NUMERIC, "C")  # libmpv refuses to start with another decimal separator
    try:
        import mpv
    except OSError as error:
        raise DrbaError(f"libmpv cannot be loaded ({error}); install it: apt install libmpv2") from error

    lists = [(name, value) for name, value in mpv_options if name.endswith(("-append", "-add", "-pre", "-remove"))]
    plain = {name: value for name, value in mpv_options if (name, value) not in lists}
    player: Any
    try:
        player = mpv.MPV(**{name.replace("-", "_"): value for name, value in plain.items()})
    except (AttributeError, ValueError, TypeError) as error:
        raise InputError(f"mpv does not accept an option after --: {error}") from error
    failures: list[str] = []
    ended = threading.Event()

    @player.event_callback("seek", "playback-restart", "client-message", "end-file", "shutdown")
    def on_event(event: Any) -> None:
        data = event.as_dict(decoder=mpv.lazy_decoder)
        name = data["event"]
        if name == "seek":
            report.seek_began()
        elif name == "playback-restart":
            report.restarted()
        elif name == "client-message" and data["args"][0] == "drba-stats":
            report.stats(data["args"][1])
        elif name == "end-file" and data.get("reason") == "error":
            failures.append(str(data.get("file_error", "unknown error")))
        elif name == "shutdown":
            ended.set()

    first_track: list[int | None] = []

    @player.property_observer("vid")
    def on_track(_: str, value: Any) -> None:
        if first_track and isinstance(value, int) and first_track[-1] not in (None, value):
            report.track_switched()
        first_track.append(value if isinstance(value, int) else None)

    try:
        for name, value in lists:
            option, _, operation = name.rpartition("-")
            if option == "scripts":
                player.command("load-script", value)
            else:
                player.command("change-list", option, operation, value)
        for path in files:
            player.command("loadfile", path, "append-play")
        while not ended.wait(SAMPLE_INTERVAL_S):
            _sample(player, report)
    except KeyboardInterrupt:
        pass
    finally:
        player.terminate()
    return len(failures)


def _sample(player: Any, report: Report) -> None:
    import mpv

    try:
        playing = not player.pause and not player.seeking and not player.core_idle
        report.sample(
            player.avsync if playing else None,
            {"vo": player.frame_drop_count, "decoder": player.decoder_frame_drop_count},
        )
    except (mpv.ShutdownError, AttributeError, RuntimeError):
        pass


if __name__ == "__main__":
    sys.exit(main())
