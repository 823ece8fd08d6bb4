"""Where FFmpeg finds what mpv plays, and what it says to web servers."""

from __future__ import annotations

import pytest

from drba.errors import InputError
from player.location import Location, ffmpeg_options, locate

VIDEO, AUDIO = "https://v.example/a;b,c=1?x=%20é", "https://a.example/s"


def escaped(url: str) -> str:
    """As mpv's youtube-dl hook writes it."""
    return f"%{len(url.encode())}%{url}"


def hook(*urls: str, headers: str = "!no_clip;!no_chapters") -> str:
    return "edl://" + ";".join(f"!new_stream;{headers};{escaped(url)}" for url in urls)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ('/films/it\'s "odd" – Zoë 日本 %20 #1.mkv', '/films/it\'s "odd" – Zoë 日本 %20 #1.mkv'),
        ("C:\\films\\a b.mkv", "C:\\films\\a b.mkv"),
        ("\\\\nas\\films\\a.mkv", "\\\\nas\\films\\a.mkv"),
        ("file:///films/a%20b%23.mkv", "/films/a b#.mkv"),
        ("file:///films/a b.mkv", "/films/a b.mkv"),
        ("file://localhost/films/a.mkv", "/films/a.mkv"),
        ("lavf://https://h/a.m3u8", "https://h/a.m3u8"),
        ("https://h/a%20b.mkv?x=1", "https://h/a%20b.mkv?x=1"),
        # FFmpeg would take these names of files for protocols of its own
        ("concat:/etc/passwd|b.mkv", "./concat:/etc/passwd|b.mkv"),
        ("subfile,,start,0,end,9,,:/etc/passwd", "./subfile,,start,0,end,9,,:/etc/passwd"),
        ("file://crypto:a.mkv", "./crypto:a.mkv"),
        ("lavf://concat:a.ts|b.ts", "concat:a.ts|b.ts"),  # so the viewer has told mpv itself
    ],
)
def test_files_and_addresses(name: str, url: str) -> None:
    assert locate(name, 3) == Location(url, 3)


def test_a_file_address_of_windows() -> None:
    assert locate("file:///C:/films/Zo%C3%AB.mkv", windows=True).url == "C:/films/Zoë.mkv"
    assert locate("file:///C:/films/a.mkv", windows=False).url == "/C:/films/a.mkv"


@pytest.mark.parametrize("name", ["-", "dvd://1", "bd://", "memory://x", "fd://3", "archive://a.rar|/x.mkv"])
def test_what_only_mpv_can_read_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="mpv"):
        locate(name)


@pytest.mark.parametrize(
    ("edl", "video", "url"),
    [
        (hook(VIDEO, AUDIO), 0, VIDEO),
        (hook(VIDEO), 0, VIDEO),
        ("edl://!no_clip;film.mkv", 0, "film.mkv"),
        ("edl://concat:a.ts", 0, "./concat:a.ts"),
        ("edl://film.mkv,0,10\n!new_stream\nsound.mka", 0, "film.mkv"),
        # all_formats=yes: each stream says what it is, and how long
        (
            f"edl://!new_stream;!no_clip;!delay_open,media_type=audio,codec=aac;{escaped(AUDIO)},length=9"
            f";!new_stream;!no_clip;!delay_open,media_type=video,codec=h264,w=640,h=360;{escaped('http://small')},length=9"
            f";!new_stream;!no_clip;!delay_open,media_type=video,codec=h264,w=1920,h=1080;!track_meta,title={escaped('a;b')}"
            f";{escaped(VIDEO)},length=9",
            1,
            VIDEO,
        ),
        # picture and sound in one
        (
            "edl://!new_stream;!delay_open,media_type=video,codec=h264;!delay_open,media_type=audio,codec=aac;http://both",
            0,
            "http://both",
        ),
    ],
)
def test_the_picture_of_an_edl(edl: str, video: int, url: str) -> None:
    assert locate(edl, 5, video) == Location(url, None)  # mpv's index is that of the whole EDL


@pytest.mark.parametrize(
    ("edl", "words"),
    [
        ("edl://a.mkv;b.mkv", "put together from parts"),
        ("edl://a.mkv,10,20", "put together from parts"),
        ("edl://!mp4_dash,init=http%3A;http://part1", "put together from parts"),
        (hook("edl://!mp4_dash;x"), "put together from parts"),
        ("edl://!new_stream;!delay_open,media_type=audio;http://sound", "no file with a picture"),
        ("edl://", "no file with a picture"),
        ("edl://%x%abc", "% without a length"),
    ],
)
def test_an_edl_that_cannot_be_followed(edl: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        locate(edl)


@pytest.mark.parametrize(
    ("web", "options"),
    [
        ({}, {}),
        ({"headers": [], "user_agent": "", "referrer": None, "proxy": "", "lavf": None}, {}),
        (
            {"headers": ["X-A: 1", "Cookie: b=c"], "user_agent": "Mozilla", "referrer": "https://r"},
            {"headers": "X-A: 1\r\nCookie: b=c\r\n", "user_agent": "Mozilla", "referer": "https://r"},
        ),
        ({"proxy": "http://p:1", "lavf": {"timeout": 5}}, {"http_proxy": "http://p:1", "timeout": "5"}),
    ],
)
def test_what_web_servers_are_told(web: dict[str, object], options: dict[str, str]) -> None:
    assert ffmpeg_options(web) == options


def test_no_header_can_hold_another_one() -> None:
    assert ffmpeg_options({"headers": ["X: 1\r\nY: 2\r\n"]})["headers"] == "X: 1 Y: 2\r\n"
