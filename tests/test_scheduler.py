"""Which request is next: order, fairness by time, generations, bounds."""

from __future__ import annotations

from collections import Counter

import pytest

from server.scheduler import Scheduler, Submitted

A, B = "a", "b"


def scheduler(*lanes: str, max_queued: int = 100) -> Scheduler[str, int]:
    made: Scheduler[str, int] = Scheduler(max_queued)
    for lane in lanes:
        made.add_lane(lane)
    return made


def serve(queue: Scheduler[str, int], costs_ms: dict[str, float], jobs: int) -> list[str]:
    """Take and finish jobs one after the other; the lanes served."""
    served = []
    for _ in range(jobs):
        taken = queue.take()
        assert taken is not None
        served.append(taken[0])
        queue.finished(taken[0], costs_ms[taken[0]])
    return served


def test_one_session_is_served_in_order() -> None:
    queue = scheduler(A)
    for job in range(5):
        assert queue.submit(A, 0, job) is Submitted.QUEUED
    assert [queue.take() for _ in range(5)] == [(A, job) for job in range(5)]
    assert queue.take() is None and queue.busy


def test_equal_sessions_take_turns() -> None:
    queue = scheduler(A, B)
    for job in range(4):
        queue.submit(A, 0, job)
    for job in range(4):
        queue.submit(B, 0, job)
    assert serve(queue, {A: 5, B: 5}, 8) in ([A, B] * 4, [B, A] * 4)


def test_sessions_share_time_not_requests() -> None:
    queue = scheduler(A, B)
    for job in range(90):
        queue.submit(A, 0, job)
        queue.submit(B, 0, job)
    served = Counter(serve(queue, {A: 30, B: 10}, 80))
    assert served[B] == pytest.approx(3 * served[A], abs=6)


def test_two_workers_do_not_both_serve_one_session() -> None:
    queue = scheduler(A, B)
    for job in range(4):
        queue.submit(A, 0, job)
        queue.submit(B, 0, job)
    first, second = queue.take(), queue.take()
    assert first is not None and second is not None
    assert {first[0], second[0]} == {A, B}


def test_a_session_that_waited_has_no_credit() -> None:
    queue = scheduler(A, B)
    for job in range(60):
        queue.submit(A, 0, job)
    serve(queue, {A: 10}, 50)
    for job in range(20):
        queue.submit(B, 0, job)
    assert Counter(serve(queue, {A: 10, B: 10}, 10)) == {A: 5, B: 5}


def test_cancelled_generation_is_not_served_and_not_accepted() -> None:
    queue = scheduler(A)
    for generation, job in ((0, 1), (1, 2), (0, 3), (2, 4)):
        queue.submit(A, generation, job)
    assert queue.cancel(A, 2) == [1, 2, 3]
    assert queue.submit(A, 1, 5) is Submitted.CANCELLED
    assert queue.cancel(A, 1) == [], "an older cancel that comes late takes nothing back"
    assert queue.submit(A, 1, 6) is Submitted.CANCELLED
    assert queue.take() == (A, 4) and queue.take() is None


def test_queue_is_bounded() -> None:
    queue = scheduler(A, B, max_queued=2)
    assert [queue.submit(A, 0, job) for job in range(3)] == [Submitted.QUEUED, Submitted.QUEUED, Submitted.FULL]
    assert queue.submit(B, 0, 0) is Submitted.QUEUED, "the other session's queue is its own"
    queue.take()
    assert queue.queued(A) + queue.queued(B) == 2


def test_session_ends_when_its_last_request_does() -> None:
    queue = scheduler(A)
    queue.submit(A, 0, 1)
    queue.submit(A, 0, 2)
    queue.take()
    assert queue.retire(A) == ([2], False)
    assert queue.submit(A, 0, 3) is Submitted.CANCELLED
    assert queue.finished(A, 5) is True
    assert not queue.busy
    queue.add_lane(A)  # the place is free again


def test_idle_session_ends_at_once() -> None:
    queue = scheduler(A)
    assert queue.retire(A) == ([], True)
    with pytest.raises(KeyError):
        queue.submit(A, 0, 1)
