"""Every file of the zoo in a real mpv, alone and with DRBA on: what the table says, and never worse than alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import av
import pytest
import zoo
from render_helpers import LOSSLESS, frames, render
from zoo import Outcome, Pictures, Specimen
from zoo_player import Played, Player

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]  # the first one plays all, several at once
PAGE = Path(__file__).resolve().parent.parent / "docs" / "media.md"
PLAYERS = 3  # of each kind at once: they mostly wait for each other's processes
SPECIMENS = [pytest.param(specimen, id=specimen.name) for specimen in zoo.ALL]
#: Pictures that come closer to the film's end than this count as its end: an output interval, and rounding.
END_S = 0.1
#: Where the server does not answer at once, on a busy machine, half a second of film gets its own pictures only; and mpv itself
#: may leave out one of 960 pictures a second (120 of film, twice, at fourfold speed).
ATTEMPTS = 5

Both = tuple[Played, Played]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, clip_folder: Path) -> dict[str, Both | BaseException]:
    """What mpv made of the files whose tests were chosen, alone and with DRBA, or why not."""
    chosen = [
        item.callspec.params["specimen"]
        for item in request.session.items
        if "specimen" in getattr(item, "fixturenames", ())
    ]
    folder = zoo.Folder(clip_folder)
    pairs: SimpleQueue[tuple[Player, Player]] = SimpleQueue()
    every = [(Player(drba=False), Player(drba=True)) for _ in range(min(PLAYERS, len(chosen)))]
    for pair in every:
        pairs.put(pair)

    def play(specimen: Specimen) -> Both | BaseException:
        alone, with_drba = pair = pairs.get()
        try:
            path = folder.path(specimen.name)
            drawn = specimen.outcome in (Outcome.BETWEEN, Outcome.PARTLY)
            # Going over to the film's own track takes a moment, in which the film goes on.
            speed = 1.0 if specimen.outcome is Outcome.PARTLY else 4.0
            without = alone.play(path, speed=speed)
            for _ in range(ATTEMPTS):
                played = with_drba.play(path, drawn=drawn, speed=speed)
                complete = specimen.outcome is not Outcome.BETWEEN or not lost(specimen, without, played)
                if not (drawn and played.was_on) or (complete and has_in_betweens(specimen, without, played)):
                    break
            return without, played
        except (zoo.CannotMake, AssertionError, OSError) as error:
            return error
        finally:
            pairs.put(pair)

    with ThreadPoolExecutor(PLAYERS) as threads:
        results = dict(zip([s.name for s in chosen], threads.map(play, chosen), strict=True))
    for pair in every:
        for player in pair:
            player.close()
    return results


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_it_plays_as_the_table_says(specimen: Specimen, played: dict[str, Both | BaseException]) -> None:
    result = played[specimen.name]
    if isinstance(result, zoo.CannotMake):
        pytest.skip(f"FFmpeg here cannot write it: {result}")
    if isinstance(result, BaseException):
        raise result
    alone, on = result
    assert on.end == alone.end
    assert not on.complaints
    CHECKS[specimen.outcome](specimen, alone, on)


def check_shown_with_drba(specimen: Specimen, alone: Played, on: Played) -> None:
    assert on.was_on, on.lines
    assert not any("cannot start" in line for line in on.lines)
    check_nothing_lost(specimen, alone, on)


def check_nothing_lost(specimen: Specimen, alone: Played, on: Played) -> None:
    assert alone.pictures and len(on.pictures) >= len(alone.pictures)
    assert not lost(specimen, alone, on), "pictures of the film that are not shown, by their times"
    check_ends(alone, on)


def lost(specimen: Specimen, alone: Played, on: Played) -> list[float]:
    return missing(alone, on) if specimen.pictures is Pictures.ALL else []


def missing(alone: Played, on: Played) -> list[float]:
    """Times of the film's pictures that were not shown with DRBA on."""
    return [picture.time_s for picture in alone.pictures if picture.content not in on.contents]


def check_ends(alone: Played, on: Played) -> None:
    """Picture and sound end when they do without DRBA, but for the last picture's own length."""
    last_shown_s = max(END_S, alone.pictures[-1].time_s - alone.pictures[-2].time_s if len(alone.pictures) > 1 else 0)
    assert on.pictures[-1].time_s == pytest.approx(alone.pictures[-1].time_s, abs=last_shown_s), "the film's end"
    assert on.audio_track == alone.audio_track
    if alone.sound_end_s is not None:
        assert on.sound_end_s == pytest.approx(alone.sound_end_s, abs=END_S), "the sound's end"


def check_between(specimen: Specimen, alone: Played, on: Played) -> None:
    check_shown_with_drba(specimen, alone, on)
    assert has_in_betweens(specimen, alone, on)


def has_in_betweens(specimen: Specimen, alone: Played, on: Played) -> bool:
    """Whether any was drawn, and shown: that can be seen where all other pictures are known."""
    known = specimen.outcome is Outcome.BETWEEN and specimen.pictures is Pictures.ALL
    return on.interpolated > 0 and (not known or len(on.contents) > len(alone.contents))


def check_own(specimen: Specimen, alone: Played, on: Played) -> None:
    check_shown_with_drba(specimen, alone, on)
    assert on.contents == alone.contents


def check_partly(specimen: Specimen, alone: Played, on: Played) -> None:
    assert any(specimen.why in line for line in on.lines), on.lines
    assert on.was_on and on.interpolated > 0
    if specimen.pictures is Pictures.UNSEEKABLE:
        return
    # Going over and back are seeks, each of which may cost a moment on a busy machine.
    assert len(missing(alone, on)) <= len(alone.pictures) / 3
    check_ends(alone, on)


def check_off(specimen: Specimen, alone: Played, on: Played) -> None:
    said = [line for line in on.lines if "cannot start" in line]
    assert len(set(said)) == 1 and specimen.why in said[0], on.lines
    assert not on.was_on
    assert on.pictures == alone.pictures and on.sound_end_s == alone.sound_end_s


def check_nothing(specimen: Specimen, alone: Played, on: Played) -> None:
    assert not alone.pictures and not on.pictures and not on.was_on


CHECKS = {
    Outcome.BETWEEN: check_between,
    Outcome.OWN: check_own,
    Outcome.PARTLY: check_partly,
    Outcome.REFUSED: check_off,
    Outcome.NOTHING: check_nothing,
}


@pytest.mark.parametrize(
    "name",
    ["h264.ts", "mpeg2.vob", "no-times.avi", "raw.h264", "mid-gop.ts", "7x5.mkv", "resolution.ts", "one-frame.mkv"],
)
def test_a_render_has_every_picture_too(name: str, clip_folder: Path, tmp_path: Path) -> None:
    source, output = zoo.Folder(clip_folder).path(name), tmp_path / "out.mkv"
    render(source, output, "--fps", "2x", *LOSSLESS)
    with av.open(str(source)) as container:
        film = sum(1 for _ in container.decode(video=0))
    assert len(frames(output)) == 2 * film


def test_the_page_is_the_table() -> None:
    """Made by `python tests/zoo.py`."""
    assert zoo.table() in PAGE.read_text(encoding="utf-8")


def test_there_is_every_kind_of_file() -> None:
    assert len(zoo.ALL) >= 60 and {specimen.outcome for specimen in zoo.ALL} == set(Outcome)
