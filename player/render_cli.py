"""`drba-render`: a film with in-between frames, from a file to a file."""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import drba
from drba.errors import DrbaError, InputError
from engines import check_engine
from server.keys import find_server

from . import options
from .cluster import Cluster
from .relations import SceneOptions
from .render.batch import INTERRUPTED, render_all
from .render.choose_encoder import EncoderWishes
from .render.distribute import render_on_cluster, settled_on
from .render.films import plan_films
from .render.prepare import RenderRequest, make_job
from .render.preview_film import write_preview
from .render.progress import BarDisplay, Counts, Display, JsonDisplay, Ticker
from .render.run import Destination, Prepared, Stopped, keep_so_far, opener, prepare, render, shortcomings
from .render.segments import SEGMENT_FRAMES
from .source import VideoSource, check_input

#: DRBA's own flags for the options that the player has, too.
ALIASES = {
    "fps": ("-fps", "--dst_fps"),
    "model": ("-m", "--model_type"),
    "scale": ("-scale",),
    "scdet": ("-s", "--enable_scdet"),
    "scdet_threshold": ("-st", "--scdet_threshold"),
}
#: What means something else here: there is no display.
HELPS = {"fps": "frames a second of the output: 60, 60000/1001, 59.94, 2.5x (default: twice the film's)"}
LEFT_OUT = ("quality", "server")  # the first is about keeping up, the second has a form of its own
DESCRIPTION = """\
Render a film with in-between frames that keep the animators' rhythm. Sound, subtitles, fonts, chapters and colours of
the source are kept. What an interrupted render has made is kept too: --resume goes on."""
EPILOG = """\
Examples:
  drba-render film.mkv film-60.mkv --fps 60
  drba-render -m rife -i input.mp4 -o output.mp4 -fps 60 -scale 1.0 -s -st 0.3 -hw
  drba-render film.mkv out.mkv --range 1:00-1:30 --codec libx265 --crf 14 --preset slow
  drba-render film.mkv --fps 60 --preview 12:30
  drba-render season/ -o smooth/ --fps 60 --cluster local
Ctrl+C stops; the same command with --resume goes on."""


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "drba-render",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="IN OUT",
        help="source and output (.mkv, .mp4, .m4v or .mov); or films or folders and -o",
    )
    parser.add_argument("-i", "--input", metavar="IN", help="the source, as DRBA takes it")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the output, as DRBA takes it; a folder for several films"
    )
    options.add_arguments(parser, ALIASES, leave_out=LEFT_OUT, helps=HELPS)
    parser.add_argument(
        "-t", "--times", type=_times, metavar="N", help="N times the source's frame rate, instead of --fps"
    )
    parser.add_argument(
        "--range", metavar="A-B", help="render from A to B only (seconds or H:MM:SS; either may be left out)"
    )
    parser.add_argument(
        "--preview",
        type=_moment,
        metavar="T",
        help="only draw a picture (OUT.preview.png) of what will be made around the time T",
    )
    encoding = parser.add_argument_group("encoding")
    encoding.add_argument(
        "--codec", metavar="NAME", help="FFmpeg's encoder (default: libx264; libx265 for 10 bits and HDR)"
    )
    encoding.add_argument(
        "--crf",
        type=_quality,
        metavar="Q",
        help="quality, lower is better and larger (default: 16, hard to tell from the source)",
    )
    encoding.add_argument("--preset", metavar="NAME", help="the encoder's preset (default: medium)")
    encoding.add_argument("--pix-fmt", metavar="NAME", help="pixel format (default: the source's)")
    encoding.add_argument(
        "-hw", "--hwaccel", action="store_true", help="encode on an NVIDIA card (NVENC), if there is one"
    )
    running = parser.add_argument_group("running")
    running.add_argument("--resume", action="store_true", help="go on with an interrupted render of the same output")
    running.add_argument("--force", action="store_true", help="overwrite the output; discard an unfinished render")
    running.add_argument(
        "--segment-frames",
        type=_segment,
        default=SEGMENT_FRAMES,
        metavar="N",
        help="output frames of a segment: a killed render loses the last one, N to 2N frames (default: %(default)s)",
    )
    running.add_argument(
        "--server",
        nargs="?",
        const="",
        metavar="NAME",
        help="let a drba-server render: a machine of `drba pair --list`, or without NAME your own",
    )
    running.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="render on several machines with Ray (ray://HOST:PORT), or on all cores and cards of this one (local)",
    )
    running.add_argument("--json-progress", action="store_true", help="one JSON object a line, for programs")
    parser.add_argument("--version", action="version", version=f"drba-render {drba.__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    display: Display = JsonDisplay() if arguments.json_progress else BarDisplay()
    try:
        return _run(arguments, display)
    except DrbaError as error:
        display.failed(str(error))
        return error.exit_status
    except KeyboardInterrupt:  # pressed twice: at once
        return INTERRUPTED


def _run(arguments: argparse.Namespace, display: Display) -> int:
    sources, output = _files(arguments)
    if arguments.preview is not None:
        return _preview(arguments, sources, output, display)
    films = plan_films(sources, output)
    if arguments.cluster is not None and arguments.server is not None:
        raise InputError("--cluster and --server were both given; the machines of a cluster render by themselves")
    # Ray has a handler of its own for signals: ours comes after it.
    with _cluster(arguments.cluster) as cluster, stop_on_signals() as stop:

        def render_one(source: str, output: Path) -> int:
            return _film(arguments, source, output, display, stop, cluster)

        if films.many:
            return render_all(films, display, render_one, force=arguments.force)
        return render_one(*films.pairs[0])


def _cluster(address: str | None) -> contextlib.AbstractContextManager[Cluster | None]:
    return contextlib.nullcontext() if address is None else Cluster(address)


def _film(
    arguments: argparse.Namespace,
    source: str,
    output: Path,
    display: Display,
    stop: threading.Event,
    cluster: Cluster | None,
) -> int:
    request = make_request(arguments, source)
    destination = Destination(output, force=arguments.force, resume=arguments.resume)
    open_engine = settled_on(cluster, source) if cluster else opener(_server(arguments.server), display.note, stop)
    prepared = prepare(request, destination, open_engine)
    try:
        for note in prepared.notes:
            display.note(note)
        return _render(prepared, display, stop, cluster)
    finally:
        prepared.close()


def _render(prepared: Prepared, display: Display, stop: threading.Event, cluster: Cluster | None) -> int:
    counts = Counts()
    before = prepared.first_missing - prepared.job.first
    if cluster is not None:
        before = sum(segment.frames for segment in prepared.folder.all_segments())
    display.begin(str(prepared.output), before, prepared.total, prepared.renderer.model, prepared.renderer.engine)
    try:
        with Ticker(lambda: display.update(counts)):
            if cluster is not None:
                render_on_cluster(prepared, cluster, counts, stop, display.note)
            else:
                render(prepared, counts, stop)
    except Stopped:
        so_far = keep_so_far(prepared)
        where = f"what there is plays as {so_far}; " if so_far else ""
        display.stopped(counts, f"stopped; {where}go on with --resume")
        return INTERRUPTED
    for note in shortcomings(prepared, before + counts.frames):
        display.note(note)
    display.done(counts)
    return 0


def _preview(arguments: argparse.Namespace, sources: list[str], output: str | None, display: Display) -> int:
    if len(sources) != 1:
        raise InputError(f"--preview draws one film; {len(sources)} were given")
    check_input(sources[0])
    source = VideoSource(sources[0])
    try:
        job, _ = make_job(make_request(arguments, sources[0]), source)
        path = Path(output or Path(sources[0]).name)
        if path.suffix.lower() != ".png":
            path = path.with_suffix(".preview.png")
        write_preview(job, source, arguments.preview, path)
    finally:
        source.close()
    display.note(f"{path}: what will be made around {float(arguments.preview):g} s")
    return 0


def make_request(arguments: argparse.Namespace, source: str) -> RenderRequest:
    """The command line's options for one source; InputError for what cannot be."""
    if arguments.times is not None and arguments.fps is not None:
        raise InputError("--times and --fps were both given; choose one")
    values = options.resolve(arguments, {})  # not the player's config file: a command says all that it renders
    if not arguments.server:  # else it knows which engines it has
        check_engine(str(values["engine"]))
    return RenderRequest(
        path=source,
        fps=f"{arguments.times}x" if arguments.times is not None else str(values["fps"]),
        model=str(values["model"]),
        engine=str(values["engine"]),
        scale=float(values["scale"]),
        scene=SceneOptions(bool(values["scdet"]), float(values["scdet_threshold"])),
        encoder=EncoderWishes(
            arguments.codec, arguments.crf, arguments.preset, arguments.pix_fmt, hardware=arguments.hwaccel
        ),
        range_s=parse_range(arguments.range) if arguments.range else (None, None),
        segment_frames=arguments.segment_frames,
    )


def _files(arguments: argparse.Namespace) -> tuple[list[str], str]:
    """Sources and the output. Without -o the last file is the output."""
    sources = [*([arguments.input] if arguments.input else []), *arguments.files]
    output = arguments.output
    if output is None and len(sources) > 1:
        output = sources.pop()
    if not sources or (output is None and arguments.preview is None):
        raise InputError("expected a source and an output: drba-render IN OUT, or -i IN -o OUT")
    return sources, output or ""


def _server(value: str | None) -> str | None:
    """InputError for a server that cannot be: most likely the file after --server was taken for it."""
    if value and not value.startswith("ipc://"):
        try:
            find_server(value)
        except InputError as error:
            raise InputError(f"{error}; write --server last to use your own") from error
    return value


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl+C and SIGTERM set; the second time they end the program at once."""
    stop = threading.Event()

    def on_signal(number: int, _: object) -> None:
        if stop.is_set():
            signal.default_int_handler(number, None)
        stop.set()

    handled = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, on_signal) for number in handled]
    try:
        yield stop
    finally:
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)


# --- values -----------------------------------------------------------------------------------------------------------


def parse_range(text: str) -> tuple[Fraction | None, Fraction | None]:
    """`A-B`, `A-` or `-B`, each in seconds, M:SS or H:MM:SS; InputError."""
    begin, dash, end = text.partition("-")
    if not dash or not (begin or end):
        raise InputError(f"--range {text!r}: expected A-B, A- or -B in seconds or H:MM:SS, such as 1:00-1:30")
    return (_time(begin, text) if begin else None), (_time(end, text) if end else None)


def _time(text: str, whole: str) -> Fraction:
    if not re.fullmatch(r"(\d+:)?(\d+:)?\d+(\.\d+)?", text):
        raise InputError(f"--range {whole!r}: {text!r} is no time; expected seconds, M:SS or H:MM:SS")
    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def _moment(text: str) -> Fraction:
    try:
        return _time(text, text)
    except InputError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time in seconds or H:MM:SS") from None


def _times(text: str) -> Fraction:
    return _number(text, "a number above 1, such as 2 or 2.5", lambda value: value > 1)


def _quality(text: str) -> float:
    return float(_number(text, "a number from 0 to 63", lambda value: 0 <= value <= 63))


def _segment(text: str) -> int:
    value = _number(text, "a whole number from 1", lambda value: value >= 1 and value.denominator == 1)
    return int(value)


def _number(text: str, expected: str, allowed: Callable[[Fraction], bool]) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(-1)
    if not allowed(value):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return value


if __name__ == "__main__":
    sys.exit(main())
