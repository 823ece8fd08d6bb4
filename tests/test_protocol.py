"""The wire protocol: bytes both ways, what is refused and in which words, and that no other error comes out."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drba.errors import ProtocolError
from server import messages as m
from server.protocol import MalformedMessage, parse_reply, parse_request, serialize

OPEN = m.Open(
    session=1,
    width=64,
    height=36,
    pixel_format="yuv420p",
    matrix="bt709",
    full_range=False,
    model="flow",
    engine="auto",
    scale=1.0,
    linear=True,
    shared=m.SharedMemory(pid=1234, fd=7, slots=4, slot_bytes=4096),
)
RENDER = m.Render(
    session=1,
    generation=2,
    request=3,
    previous=10,
    middle=11,
    following=12,
    interval_before=1.0,
    interval_after=0.5,
    times=(0.5, 1.25),
    attached=((12, 4),),
    output_slots=(7, 8),
    encoding="",
)
INLINE = replace(RENDER, attached=((11, 0), (12, 1)), output_slots=())
REPORT = m.SessionReport(
    1, 0, 64, 36, "gray", "rife-4.6", "torch-cuda", "tensorrt", 0.4, "0 card", "inline", 0, 5, 1, 0, 2.5
)

LITERAL = [
    (m.Hello(), "82a17603a474797065a568656c6c6f"),
    (m.Cancel(1, 300), "84a17603a474797065a663616e63656ca773657373696f6e01aa67656e65726174696f6ecd012c"),
    (m.Goodbye("idle"), "83a17603a474797065a7676f6f64627965a6726561736f6ea469646c65"),
    (
        RENDER,
        "8ea17603a474797065a672656e646572a773657373696f6e01aa67656e65726174696f6e02a77265717565737403a870726576696f7573"
        "0aa66d6964646c650ba9666f6c6c6f77696e670caf696e74657276616c5f6265666f7265cb3ff0000000000000ae696e74657276616c5f"
        "6166746572cb3fe0000000000000a574696d657392cb3fe0000000000000cb3ff4000000000000a8617474616368656491920c04ac6f75"
        "747075745f736c6f7473920708a8656e636f64696e67a0",
    ),
    (
        m.Need(1, 2, 3, (10, 11), False),
        "87a17603a474797065a46e656564a773657373696f6e01aa67656e65726174696f6e02a77265717565737403a66672616d6573920a0b"
        "af756e6b6e6f776e5f73657373696f6ec2",
    ),
    (
        m.Failure(None, 3, "busy", "no"),
        "86a17603a474797065a76661696c757265a773657373696f6ec0a77265717565737403a4636f6465a462757379a76d657373616765a26e6f",
    ),
]


def parse(parts: list[bytes]) -> tuple[m.Message, tuple[object, ...]]:
    label = msgpack.unpackb(parts[0])["type"]
    return (parse_request if label in {kind.label for kind in m.REQUESTS} else parse_reply)(parts)


@pytest.mark.parametrize(("message", "wire"), LITERAL, ids=lambda value: getattr(value, "label", ""))
def test_message_has_these_bytes(message: m.Message, wire: str) -> None:
    assert serialize(message)[0].hex() == wire  # type: ignore[union-attr]
    assert parse([bytes.fromhex(wire)]) == (message, ())


@pytest.mark.parametrize(
    "message",
    [
        OPEN,
        replace(OPEN, shared=None),
        RENDER,
        m.Close(5),
        m.Status(),
        m.Stop(),
        m.Welcome("0.1.0", 99, ("flow", "rife-4.26"), 2),
        m.CancelBuild(5),
        m.Opened(1, "flow", "cpu", "shared", "flow on cpu (no network is installed)"),
        m.Engine(1, "rife-4.6", "torch-cuda", "tensorrt", 0.4, "part render, 4 of 10"),
        m.Rendered(1, 2, 3, 4.5, 0.5, "delta-bitshuffle-zstd"),
        m.Received(1, 2, 3.5),
        m.Dropped(1, 2, 3),
        m.StatusReport("0.1.0", 99, 1.5, 0.5, 2, 3, 4, 5, 6, (REPORT, REPORT)),
    ],
    ids=lambda message: message.label,
)
def test_message_comes_back_as_it_was(message: m.Message) -> None:
    assert parse(serialize(message)) == (message, ())  # type: ignore[arg-type]


def test_payloads_follow_the_header() -> None:
    assert parse_request(serialize(INLINE, [b"one", b"two"])) == (INLINE, (b"one", b"two"))
    done = m.Rendered(1, 2, 3, 4.5, 0.0, "")
    assert parse_reply(serialize(done, [b"pixels"])) == (done, (b"pixels",))


def test_an_integer_stands_for_a_float() -> None:
    header = {"v": 3, "type": "render", **RENDER.to_map(), "interval_before": 2, "times": [1, 0]}
    message, _ = parse_request([msgpack.packb(header)])
    assert isinstance(message, m.Render)
    assert message.times == (1.0, 0.0) and isinstance(message.interval_before, float)


def header(message: m.Message, **changes: object) -> list[bytes]:
    fields = {"v": 3, "type": message.label, **message.to_map(), **changes}
    return [msgpack.packb({key: value for key, value in fields.items() if value is not KeyError})]


BIG = 1 << 60
MALFORMED = {
    "no parts": ([], "message has 0 parts, expected 1..32769"),
    "too many parts": ([b"\x80"] * 32770, "message has 32770 parts"),
    "empty header": ([b""], "header is not msgpack"),
    "not msgpack": ([b"\xc1"], "header is not msgpack"),
    "trailing bytes": ([b"\x80\x80"], "header is not msgpack"),
    "text that is not UTF-8": ([b"\x81\xa1v\xa1\xff"], "header is not msgpack"),
    "nested without end": ([b"\x91" * 2000], "header is not msgpack"),
    "not a map": ([b"\x93\x01\x02\x03"], "header is a list of 3, expected a map"),
    "too long": ([b"\xc6" + b"\0" * 70000], "header has 70001 bytes, expected at most 65536"),
    "no version": ([b"\x80"], "protocol version None, expected 3"),
    "another version": (header(m.Hello(), v=1), "protocol version 1, expected 3: update the older"),
    "version of another type": (header(m.Hello(), v=True), "protocol version True, expected 3"),
    "no type": (header(m.Hello(), type=KeyError), "type is None, expected one of hello, open"),
    "unknown type": (header(m.Hello(), type="x" * 99), "type is 'xxxx"),
    "type of another type": (header(m.Hello(), type=[1]), "type is a list of 1"),
    "a server's message": (header(m.Dropped(1, 2, 3)), "type is 'dropped'"),
    "missing field": (header(m.Close(1), session=KeyError), "missing or unknown fields: 'session'; expected session"),
    "unknown field": (header(m.Hello(), extra=1), "missing or unknown fields: 'extra'; expected none"),
    "text for a number": (
        header(m.Close(1), session="1"),
        "close.session is '1', expected an integer in 0..2147483647",
    ),
    "bool for a number": (header(m.Close(1), session=True), "close.session is True"),
    "negative": (header(m.Close(1), session=-1), "close.session is -1"),
    "too large": (header(m.Cancel(1, 2), generation=BIG), f"cancel.generation is {BIG}"),
    "width 0": (header(OPEN, width=0), "open.width is 0, expected an integer in 1..16384"),
    "width beyond the limit": (header(OPEN, width=16385), "open.width is 16385"),
    "frames beyond the limit": (
        header(OPEN, width=16384, height=16384, pixel_format="yuv444p16le", shared=None),
        "frames of 1610612736 bytes, expected at most 536870912",
    ),
    "unknown pixel format": (header(OPEN, pixel_format="p010le"), "open.pixel_format: pixel format 'p010le' is not"),
    "number for a flag": (header(OPEN, linear=1), "open.linear is 1, expected true or false"),
    "long name": (header(OPEN, model="m" * 65), "expected text of at most 64 characters"),
    "scale NaN": (header(OPEN, scale=float("nan")), "open.scale is nan, expected a number in 0.0625..16"),
    "shared of another type": (header(OPEN, shared=5), "open.shared is 5, expected a map"),
    "shared without fields": (header(OPEN, shared={}), "open.shared has missing or unknown fields"),
    "slots smaller than a frame": (
        header(OPEN, shared={"pid": 1, "fd": 1, "slots": 1, "slot_bytes": 100}),
        "shared.slot_bytes is 100, expected a frame's 3456 or more",
    ),
    "too many slots": (
        header(OPEN, shared={"pid": 1, "fd": 1, "slots": 1025, "slot_bytes": 4096}),
        "open.shared.slots is 1025, expected an integer in 1..1024",
    ),
    "no times": (header(RENDER, times=[], output_slots=[]), "render.times is empty"),
    "too many times": (header(RENDER, times=[1.5] * 65), "render.times is a list of 65, expected a list of at most 64"),
    "time beyond the triplet": (header(RENDER, times=[0.5, 2.5]), "render.times[1] is 2.5, expected a number in 0..2"),
    "time without its frame": (header(RENDER, previous=None), "reach the previous frame, which the triplet lacks"),
    "time after the last frame": (header(RENDER, following=None, attached=[]), "reach the following frame"),
    "interval 0": (header(RENDER, interval_before=0), "render.interval_before is 0"),
    "one frame alone": (header(RENDER, previous=None, following=None, times=[1.0]), "render has frames (11,)"),
    "one frame twice": (header(RENDER, previous=11), "render has frames (11, 11, 12), expected two or three different"),
    "attached is no pair": (header(RENDER, attached=[[12]]), "render.attached[0] is a list of 1, expected a pair"),
    "attached is foreign": (header(RENDER, attached=[[99, 0]]), "render.attached has frames [99], expected different"),
    "attached twice": (header(RENDER, attached=[[12, 1], [12, 2]]), "render.attached has frames [12, 12]"),
    "attached too many": (header(RENDER, attached=[[12, 1]] * 4), "expected a list of at most 3"),
    "slot out of range": (header(RENDER, output_slots=[7, 1024]), "render.output_slots[1] is 1024"),
    "slots for other times": (header(RENDER, output_slots=[7]), "render.output_slots has 1 slots for 2 times"),
    "slot used twice": (header(RENDER, output_slots=[4, 7]), "render names one slot twice"),
    "payload missing": (header(INLINE), "render attaches 2 frames in 0 payloads, expected as many for each"),
    "payload too many": ([*header(INLINE), b"", b"", b""], "render attaches 2 frames in 3 payloads"),
    "place of no payload": (
        [*header(INLINE, attached=[[11, 0], [12, 2]]), b"", b""],
        "render.attached names frames [0, 2] of the payloads, expected 0 to 1",
    ),
    "payload with shared memory": ([*header(RENDER), b""], "render came with 1 payloads, expected none"),
    "payload with another message": ([*header(m.Hello()), b""], "hello came with 1 payloads, expected none"),
}


@pytest.mark.parametrize(("parts", "words"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_message_is_refused_with_what_was_found_and_expected(parts: list[bytes], words: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_request(parts)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_refusal_carries_the_ids_that_can_be_read() -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_request(header(RENDER, times=[]))
    assert (caught.value.session, caught.value.request, caught.value.code) == (1, 3, m.FailureCode.MALFORMED)
    with pytest.raises(MalformedMessage) as caught:
        parse_request(header(RENDER, v=9, session="one", request=-1))
    assert (caught.value.session, caught.value.request, caught.value.code) == (None, None, m.FailureCode.VERSION)


@pytest.mark.parametrize("broken", [replace(RENDER, times=()), replace(RENDER, middle="11"), replace(OPEN, width=0)])
def test_a_message_that_breaks_its_rules_is_not_sent(broken: m.Message) -> None:
    with pytest.raises(ProtocolError):
        serialize(broken)


SCALARS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner), max_leaves=8
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=64), max_size=4))
def test_no_bytes_raise_anything_else(parts: list[bytes]) -> None:
    for parser in (parse_request, parse_reply):
        with pytest.raises(MalformedMessage):
            parser(parts)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([OPEN, RENDER, INLINE, m.Cancel(1, 2)]), st.data())
def test_no_field_raises_anything_else(message: m.Message, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(message.to_map())))
    try:
        parsed, _ = parse_request(header(message, **{name: data.draw(ANYTHING)}))
    except MalformedMessage:
        return
    parsed.check()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_no_damaged_message_raises_anything_else(data: st.DataObject) -> None:
    wire = bytearray(header(RENDER)[0])
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed, _ = parse_request([bytes(wire[: data.draw(st.integers(0, len(wire)))])])
    except MalformedMessage:
        return
    parsed.check()
