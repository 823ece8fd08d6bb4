"""Which frames the server holds of a session. Both ends keep one, fed by the same messages, so that they agree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class KnownFrames(Generic[T]):
    """A bounded map of frame number -> where it is, the least recently used forgotten first.

    With shared memory a frame is in a slot, and a slot holds one frame: giving it another forgets the first. Inline
    frames have no slot. Not safe to use from several threads.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._frames: OrderedDict[int, T] = OrderedDict()
        self._slot_of: dict[int, int] = {}
        self._number_in: dict[int, int] = {}

    def put(self, number: int, where: T, slot: int | None = None) -> None:
        self.forget(number)
        if slot is not None:
            self.forget_slots((slot,))
            self._slot_of[number] = slot
            self._number_in[slot] = number
        self._frames[number] = where
        while len(self._frames) > self._capacity:
            self.forget(next(iter(self._frames)))

    def get(self, number: int) -> T | None:
        """Where the frame is, and count that as a use; None if it is not known."""
        if number not in self._frames:
            return None
        self._frames.move_to_end(number)
        return self._frames[number]

    def holds(self, number: int, slot: int | None = None) -> bool:
        """Whether the frame is known, in that very slot if one is given, and count that as a use."""
        if number not in self._frames or self._slot_of.get(number) != slot:
            return False
        self._frames.move_to_end(number)
        return True

    def forget(self, number: int) -> None:
        self._frames.pop(number, None)
        slot = self._slot_of.pop(number, None)
        if slot is not None:
            del self._number_in[slot]

    def forget_slots(self, slots: Iterable[int]) -> None:
        """The slots' content is about to change."""
        for slot in slots:
            if slot in self._number_in:
                self.forget(self._number_in[slot])

    def clear(self) -> None:
        self._frames.clear()
        self._slot_of.clear()
        self._number_in.clear()

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, number: int) -> bool:
        return number in self._frames
