"""Whether frames are encoded before they are sent: decided by what sending and encoding were measured to cost."""

from __future__ import annotations

import pytest

from drba.pixels import FrameLayout, pixel_format
from server.frame_codec import DELTA, RAW
from server.outgoing import FIRST_ENCODED, TRIAL_EVERY, Outgoing, Packed, Throughput, pack

FRAME = 1_000_000


class Network:
    """A simulated link and codec: seconds a byte of sending, encoding, decoding, and the share of the bytes that are left."""

    def __init__(self, mb_per_s: float, encode_mb_per_s: float = 400, share: float = 0.25) -> None:
        self.now_s = 50.0
        self.mb_per_s, self.encode_mb_per_s, self.share = mb_per_s, encode_mb_per_s, share
        self.throughput = Throughput(lambda: self.now_s)
        self.outgoing = Outgoing(self.throughput, lambda: self.now_s)
        self.sent = 0
        self.encoded: list[bool] = []

    def send(self, messages: int) -> None:
        for _ in range(messages):
            encoding, trial = self.outgoing.next()
            encode_s = FRAME / self.encode_mb_per_s / 1e6 if encoding else 0.0
            parts = [bytes(int(FRAME * (self.share if encoding else 1)))]
            packed = Packed(parts, encoding, FRAME, encode_s, encode_s if trial else None)
            self.now_s += encode_s
            self.sent += 1
            self.outgoing.sent((1, self.sent), packed)
            self.now_s += packed.bytes / self.mb_per_s / 1e6
            self.outgoing.arrived((1, self.sent), self.now_s + 7000)  # another clock
            self.encoded.append(encoding != RAW)

    @property
    def measured_mb_per_s(self) -> float:
        assert self.throughput.s_per_byte is not None
        return 1e-6 / self.throughput.s_per_byte


@pytest.mark.parametrize(
    ("mb_per_s", "encodes"), [(10, True), (40, True), (110, True), (250, False), (1100, False)]
)  # 802.11n, 802.11ac, gigabit, 2.5 gigabit, 10 gigabit
def test_frames_are_encoded_where_that_is_faster_than_the_link(mb_per_s: float, encodes: bool) -> None:
    network = Network(mb_per_s)
    network.send(50)
    assert network.encoded[:FIRST_ENCODED] == [True] * FIRST_ENCODED, "what is not known is measured first"
    assert set(network.encoded[FIRST_ENCODED:]) == {encodes}
    assert network.measured_mb_per_s == pytest.approx(mb_per_s, rel=0.01)


def test_a_picture_that_does_not_get_smaller_goes_as_it_is() -> None:
    network = Network(110, share=0.9)
    network.send(50)
    assert not any(network.encoded[FIRST_ENCODED:])


def test_it_follows_a_link_that_changes_and_keeps_what_is_hardly_worse() -> None:
    network = Network(1000)
    network.send(30)
    for mb_per_s, encodes in ((145, False), (100, True), (155, True), (300, False)):  # 150 is where both cost the same
        network.mb_per_s = mb_per_s
        network.send(40)
        assert network.encoded[-1] is encodes, mb_per_s


def test_a_stall_of_the_network_changes_nothing() -> None:
    network = Network(500)
    network.send(30)
    network.mb_per_s = 0.3
    network.send(1)
    network.mb_per_s = 500
    network.send(20)
    assert not any(network.encoded[FIRST_ENCODED:])
    assert network.measured_mb_per_s == pytest.approx(500, rel=0.01)


def test_a_codec_that_gets_faster_is_noticed_by_a_trial() -> None:
    network = Network(250)
    network.send(30)
    network.encode_mb_per_s = 4000
    network.send(9 * TRIAL_EVERY)
    assert network.encoded[-1]


def test_messages_in_flight_are_counted_and_lost_acknowledgements_forgiven() -> None:
    network = Network(100)
    throughput = network.throughput
    for request in range(1, 9):
        throughput.sent((request % 2, request), 1000)
    assert throughput.waiting == 8
    network.now_s += 0.001
    assert throughput.arrived((1, 5), 9.0)
    assert not throughput.arrived((1, 5), 9.1) and not throughput.arrived((7, 8), 9.2), (
        "again, and of another session: nothing"
    )
    assert throughput.waiting == 3
    assert network.measured_mb_per_s == pytest.approx(5), "all that came before it had arrived as well"


def test_word_that_waited_for_frames_the_other_way_does_not_make_the_link_slow() -> None:
    now_s, way_s = 0.0, 0.01
    throughput = Throughput(lambda: now_s)
    for request in range(20):  # one on the way at any time, 20 ms each; every word of it waits for 300 ms
        now_s = request * 0.02
        throughput.sent((1, request), 200_000)
    for request in range(20):
        arrived_s = way_s + (request + 1) * 0.02
        now_s = arrived_s + 0.3
        assert throughput.arrived((1, request), arrived_s)
    assert throughput.s_per_byte == pytest.approx(1e-7)


def test_packing_says_what_it_cost() -> None:
    layout = FrameLayout(64, 48, pixel_format("yuv420p"))
    frames: list[bytes | bytearray | memoryview] = [bytes(layout.frame_bytes), bytes(layout.frame_bytes)]
    raw, tried = pack(frames, layout, RAW), pack(frames, layout, DELTA, trial=True)
    assert (raw.bytes, raw.raw_bytes, raw.encode_s, raw.decode_s) == (2 * layout.frame_bytes,) * 2 + (0.0, None)
    assert tried.bytes < raw.bytes / 10 and tried.encode_s > 0 and tried.decode_s is not None and tried.decode_s > 0
    assert pack(frames, layout, DELTA).decode_s is None
