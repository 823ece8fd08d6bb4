"""The renderer of networks on the processor, through the code that runs on a card: frames in any order, from several
threads, with errors, while it is closed, and with recorded parts."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import netweights
import numpy as np
import pytest
import torch
from cuda_host import HostLauncher
from torch import Tensor

from drba.errors import EngineError, ModelError
from drba.models import find
from drba.networks import kernels
from drba.networks.interpolator import Interpolator
from drba.networks.parts import PartFunction
from drba.networks.rife import RifeInterpolator
from drba.pixels import FrameLayout, Plane, pixel_format
from engines import SourceFrame, StreamSpec, Triplet
from engines.frames import CACHED_FRAMES, FIXED_PLACES
from engines.graphs import GraphCache
from engines.network import NetworkRenderer

MODEL = "rife-4.15.lite"
LAYOUT = FrameLayout(94, 62, pixel_format("yuv420p"))  # not divisible: padded on the device
TIMES = [0.6, 1.4]
Planes = list[Plane]


@pytest.fixture(autouse=True)
def _model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    netweights.install(MODEL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def film(count: int) -> list[SourceFrame]:
    """A texture that moves by three pixels a frame."""
    rng = np.random.default_rng(4)
    texture = np.kron(rng.integers(30, 220, (20, 60)), np.ones((6, 6))).astype(np.uint8)
    frames = []
    for number in range(count):
        planes = LAYOUT.views(bytearray(LAYOUT.frame_bytes))
        for plane in planes:
            plane[:] = texture[: plane.shape[0], 3 * number : 3 * number + plane.shape[1]]
        frames.append(SourceFrame(number, planes))
    return frames


def triplet(frames: Sequence[SourceFrame], middle: int) -> Triplet:
    return Triplet(frames[middle - 1], frames[middle], frames[middle + 1])


def rendered(renderer: NetworkRenderer, asked: Triplet, times: Sequence[float] = TIMES) -> list[Planes]:
    outputs = [LAYOUT.views(bytearray(LAYOUT.frame_bytes)) for _ in times]
    renderer.render(asked, times, outputs)
    return outputs


def opened(**options: object) -> NetworkRenderer:
    return NetworkRenderer(StreamSpec(LAYOUT, "bt709", model=MODEL), find(MODEL), "cpu", **options)  # type: ignore[arg-type]


def interpolator(renderer: NetworkRenderer) -> Interpolator:
    return renderer._network


def assert_same(found: Sequence[Planes], expected: Sequence[Planes], tolerance: int = 0) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert np.abs(a.astype(int) - b.astype(int)).max() <= tolerance


def counted(renderer: NetworkRenderer) -> Counter[str]:
    """How often each part runs from here on."""
    calls: Counter[str] = Counter()

    def counting(name: str, function: PartFunction) -> PartFunction:
        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            calls[name] += 1
            return function(*inputs)

        return run

    network = interpolator(renderer)
    renderer.use(network.with_parts({name: counting(name, part) for name, part in network.parts.items()}))
    return calls


# Order, threads


def test_triplets_out_of_order_are_the_same_and_no_frame_is_computed_twice() -> None:
    frames = film(6)
    in_order = opened()
    expected = {middle: rendered(in_order, triplet(frames, middle)) for middle in (1, 2, 3, 4)}
    shuffled = opened()
    calls = counted(shuffled)
    for middle in (2, 1, 4, 3):
        assert_same(rendered(shuffled, triplet(frames, middle)), expected[middle])
    # Frame 2 left the cache for the fifth and came back; the pairs 1-2, 2-3, 3-4, 4-5, 0-1 were computed once.
    assert calls["coarse"] == 5 and calls["layers"] <= 7
    in_order.close()
    shuffled.close()


def test_threads_share_a_renderer() -> None:
    frames = film(12)
    alone = opened()
    expected = {middle: rendered(alone, triplet(frames, middle)) for middle in range(1, 11)}
    shared = opened()
    order = list(expected)
    random.Random(3).shuffle(order)
    with ThreadPoolExecutor(3) as threads:
        for middle, found in zip(
            order, threads.map(lambda middle: rendered(shared, triplet(frames, middle)), order), strict=True
        ):
            assert_same(found, expected[middle])
    assert len(shared._frames) <= CACHED_FRAMES
    assert not any(frame.users for frame in shared._frames._frames.values())
    shared.close()


def test_times_may_come_in_any_order_and_twice() -> None:
    frames, renderer = film(3), opened()
    early, late = rendered(renderer, triplet(frames, 1))
    assert_same(rendered(renderer, triplet(frames, 1), [1.4, 0.6, 1.4]), [late, early, late])


def test_a_time_of_a_source_frame_is_that_frame_bit_for_bit() -> None:
    frames, renderer = film(3), opened()
    found = rendered(renderer, triplet(frames, 1), [0, 1, 2])
    assert_same(found, [list(frame.planes) for frame in frames])


def test_at_a_cut_the_pair_is_rendered() -> None:
    frames, renderer = film(3), opened()
    (after,) = rendered(renderer, Triplet(None, frames[0], frames[1]), [1.5])
    (before,) = rendered(renderer, Triplet(frames[0], frames[1], None), [0.5])
    assert_same([after], [before])
    for missing in (Triplet(None, frames[0], frames[1]), Triplet(None, frames[0], None)):
        with pytest.raises(ValueError, match="missing"):
            rendered(renderer, missing, [0.5])


# Errors, closing


def test_after_an_error_the_next_triplet_is_right_and_nothing_is_lost() -> None:
    frames = film(5)
    plain = opened()
    expected = rendered(plain, triplet(frames, 3))
    renderer = opened()
    rendered(renderer, triplet(frames, 1))
    staged = renderer._lanes.staged_bytes
    short = SourceFrame(9, [plane[:5] for plane in frames[2].planes])
    for _ in range(20):
        with pytest.raises(ValueError):
            rendered(renderer, Triplet(frames[1], frames[2], short))
        with pytest.raises(ValueError):
            renderer.render(triplet(frames, 2), TIMES, [[plane[:5] for plane in frames[0].planes]] * 2)
    assert renderer._lanes.staged_bytes <= staged + 2 * LAYOUT.frame_bytes
    assert_same(rendered(renderer, triplet(frames, 3)), expected)


def test_a_part_that_fails_ends_only_its_own_triplet() -> None:
    frames, renderer = film(4), opened()
    expected = rendered(renderer, triplet(frames, 2))
    network = interpolator(renderer)
    fails = [True]

    def failing(*inputs: Tensor) -> tuple[Tensor, ...]:
        if fails.pop() if fails else False:
            raise RuntimeError("out of memory")
        return network.parts["render"](*inputs)

    renderer.use(network.with_parts({"render": failing}))
    with pytest.raises(RuntimeError, match="out of memory"):
        rendered(renderer, triplet(frames, 1))
    assert_same(rendered(renderer, triplet(frames, 2)), expected)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda picture: picture.index_fill(-1, torch.tensor([7]), torch.nan), "values that are no numbers"),
        (lambda picture: picture.index_fill(-2, torch.tensor([3]), -torch.inf), "values that are no numbers"),
        (lambda picture: picture[..., :30, :], r"picture is 3x30x\d+, expected 3x62x94 or larger"),
        (lambda picture: picture[:, :1], r"picture is 1x\d+x\d+, expected 3x62x94"),
    ],
    ids=["NaN", "infinite", "too small", "grey"],
)
def test_a_picture_that_is_none_is_an_error_and_the_next_one_is_right(
    made: Callable[[Tensor], Tensor], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, renderer = film(4), opened()
    expected = rendered(renderer, triplet(frames, 2))
    network, staged = interpolator(renderer), renderer._lanes.staged_bytes
    with monkeypatch.context() as broken:
        between = network.between
        broken.setattr(network, "between", lambda *inputs: [made(picture) for picture in between(*inputs)])
        for _ in range(3):
            with pytest.raises(EngineError, match=words):
                rendered(renderer, triplet(frames, 1))
    assert_same(rendered(renderer, triplet(frames, 2)), expected)
    assert renderer._lanes.staged_bytes <= staged + 2 * LAYOUT.frame_bytes


def test_without_memory_on_the_device_it_tries_once_more_without_what_can_be_made_anew() -> None:
    frames, renderer = film(4), opened()
    expected = rendered(renderer, triplet(frames, 1))
    network = interpolator(renderer)
    failures, kept = [0, 0], []

    def full(*inputs: Tensor) -> tuple[Tensor, ...]:
        kept.append(sum(frame.known is not None for frame in renderer._frames._frames.values()))
        if failures[0]:
            failures[0] -= 1
            failures[1] += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return network.parts["render"](*inputs)

    renderer.use(network.with_parts({"render": full}))
    rendered(renderer, triplet(frames, 2))
    kept.clear()
    failures[0] = 1
    assert_same(rendered(renderer, triplet(frames, 1)), expected)
    assert failures == [0, 1] and kept[0] > kept[1] == 3, "what other triplets had left is given up"
    failures[0] = 2
    with pytest.raises(torch.OutOfMemoryError):
        rendered(renderer, triplet(frames, 1))
    assert_same(rendered(renderer, triplet(frames, 1)), expected)


def test_closing_lets_what_runs_come_to_its_end_and_frees_everything() -> None:
    frames = film(3)
    plain = opened()
    expected = rendered(plain, triplet(frames, 1))
    renderer = opened()
    network, entered, leave = interpolator(renderer), threading.Event(), threading.Event()

    def waiting(*inputs: Tensor) -> tuple[Tensor, ...]:
        entered.set()
        assert leave.wait(20)
        return network.parts["render"](*inputs)

    renderer.use(network.with_parts({"render": waiting}))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(rendered, renderer, triplet(frames, 1))
        assert entered.wait(20)
        renderer.close()
        renderer.close()
        with pytest.raises(RuntimeError, match="closed"):
            rendered(renderer, triplet(frames, 1))
        leave.set()
        assert_same(running.result(), expected)
    assert len(renderer._frames) == 0 and renderer._lanes.staged_bytes == 0


def test_another_form_of_the_network_takes_over_between_two_triplets() -> None:
    frames, renderer = film(4), opened()
    expected = rendered(renderer, triplet(frames, 2))
    calls = counted(renderer)
    renderer.use(interpolator(renderer), "tensorrt")
    assert renderer.engine == "tensorrt"
    assert_same(rendered(renderer, triplet(frames, 2)), expected)
    assert calls["layers"] == 3  # what the form before had made of these frames is not used


# Recorded parts


class Replaying:
    """A recorder that really replays: runs the function again and puts its results where the first ones are. Results that
    are not kept are spoilt by any other replay, as in a shared pool of scratch memory."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0
        self._scratch: list[Tensor] = []

    def record(
        self, function: PartFunction, inputs: Sequence[Tensor | None], *, kept: bool
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        self.recorded += 1
        outputs = tuple(torch.full_like(output, torch.nan) for output in function(*inputs))
        if not kept:
            self._scratch.extend(outputs)

        def replay() -> None:
            self.replayed += 1
            results = function(*inputs)
            for scratch in self._scratch:
                scratch.fill_(torch.nan)
            for output, result in zip(outputs, results, strict=True):
                output.copy_(result)

        return replay, outputs


def in_planes(renderer: NetworkRenderer) -> Interpolator:
    """The network in the form that a card runs."""
    network = interpolator(renderer)
    assert isinstance(network, RifeInterpolator)
    form = network.network.in_planes(network.network.precision)  # type: ignore[union-attr,operator]
    return network.with_parts({name: getattr(form, name) for name in network.parts})


def test_recorded_parts_are_replayed_and_give_the_same() -> None:
    frames = film(20)
    plain = opened()
    plain.use(in_planes(plain))
    recorder = Replaying()
    recorded = opened(recorder=recorder)
    recorded.use(in_planes(plain))
    for middle in range(1, 19):
        assert_same(rendered(recorded, triplet(frames, middle)), rendered(plain, triplet(frames, middle)), tolerance=1)
        if middle == 12:
            settled, replayed = recorder.recorded, recorder.replayed
    # Frames go round in a few buffers: after some of them nothing new is recorded, and everything is a replay: the new
    # frame's layers, its motion, two times.
    assert recorder.recorded == settled == 4 * FIXED_PLACES
    assert recorder.replayed - replayed == 4 * (18 - 12)


def test_pairs_and_threads_with_recorded_parts() -> None:
    frames = film(10)
    plain = opened()
    plain.use(in_planes(plain))
    recorded = opened(recorder=Replaying())
    recorded.use(in_planes(plain))
    asked = [triplet(frames, middle) for middle in (1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5)] * 2
    asked += [Triplet(None, frames[8], frames[9]), Triplet(frames[4], frames[5], None)] * 3
    times = [TIMES if t.previous and t.following else [1.3] if t.following else [0.3] for t in asked]
    with ThreadPoolExecutor(3) as threads:
        for one, at, found in zip(
            asked, times, threads.map(lambda a, b: rendered(recorded, a, b), asked, times), strict=True
        ):
            assert_same(found, rendered(plain, one, at), tolerance=1)


class Unable:
    def record(self, *_: object, **__: object) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")


class Wrong(Replaying):
    def record(
        self, function: PartFunction, inputs: Sequence[Tensor | None], *, kept: bool
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        return super().record(lambda *i: tuple(1.01 * output for output in function(*i)), inputs, kept=kept)


@pytest.mark.parametrize(
    ("recorder", "reason"), [(Unable(), "not permitted"), (Wrong(), "differs from plain execution")]
)
def test_where_recording_fails_parts_run_plainly_and_one_line_a_part_says_so(
    recorder: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = film(12)
    plain = opened()
    plain.use(in_planes(plain))
    renderer = opened(recorder=recorder)
    renderer.use(in_planes(plain))
    with caplog.at_level(logging.WARNING):
        for middle in range(1, 11):
            assert_same(rendered(renderer, triplet(frames, middle)), rendered(plain, triplet(frames, middle)), 1)
    lines = [record.getMessage() for record in caplog.records]
    assert 1 <= len(lines) == len(set(lines)) <= 3 and all(reason in line and "\n" not in line for line in lines)


def test_records_are_kept_by_place_shape_and_type() -> None:
    recorder = Replaying()
    cache = GraphCache(recorder, graphs_max=2)
    run = cache.wrap("double", lambda x, t: (x * 2 + t,), moving=[1])
    here, there = torch.ones(4, 4), torch.ones(4, 4)
    for value in range(5):  # the place of what moves does not count
        (found,) = run(here.fill_(value), torch.full((1,), float(value)))
        assert (found == 3 * value).all()
    assert recorder.recorded == 1 and len(cache) == 1
    run(here.view(2, 8), torch.zeros(1))
    run(here.view(2, 8), torch.zeros(1))
    assert len(cache) == 2
    for _ in range(3):  # no more than two: the rest runs plainly
        (found,) = run(there.fill_(7), torch.zeros(1))
    assert (found == 14).all() and len(cache) == 2
    cache.clear()
    (found,) = run(here.fill_(1), torch.zeros(1))
    assert (found == 2).all() and len(cache) == 0


def test_models_without_parts_are_not_recorded() -> None:
    recorder = Replaying()
    with pytest.raises(ModelError, match="fetch"):
        NetworkRenderer(StreamSpec(LAYOUT, model="gmfss"), find("gmfss"), "cpu", recorder=recorder)
    renderer = NetworkRenderer(StreamSpec(LAYOUT, model=MODEL), find(MODEL), "cpu", mode="reference", recorder=recorder)
    frames = film(3)
    for _ in range(3):
        rendered(renderer, triplet(frames, 1))
    assert recorder.recorded == 0


# The device's code from planes to planes


def test_the_whole_device_path_agrees_with_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels, lanes and recorded parts together, on the processor, against plain torch."""
    frames = film(6)
    plain = opened()
    plain.use(in_planes(plain))
    expected = [rendered(plain, triplet(frames, middle)) for middle in range(1, 5)]
    host = HostLauncher(tmp_path)
    monkeypatch.setitem(kernels.LAUNCHERS, "cpu", host)
    device = opened(recorder=Replaying())
    device.use(in_planes(plain))
    for middle in range(1, 5):
        found = rendered(device, triplet(frames, middle))
        difference = np.concatenate(
            [
                (a.astype(float) - b).ravel()
                for ours, theirs in zip(found, expected[middle - 1], strict=True)
                for a, b in zip(ours, theirs, strict=True)
            ]
        )
        assert 10 * np.log10(255**2 / max(np.mean(difference**2), 1e-9)) > 55
    assert {"planes8_to_rgb_f32", "rgb_f32_to_planes8", "sample_f32", "splat_add_f32"} <= set(host.launched)
