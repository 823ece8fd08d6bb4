"""Which NVIDIA cards this process may use, found without torch and without initialising CUDA.

The driver's management library (NVML) is asked, since `cuInit` would fix the cards that this process sees and cost memory
on each of them. What CUDA_VISIBLE_DEVICES leaves out is left out here too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

VISIBLE_ENV = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Card:
    """`name` as NVIDIA gives it (empty where the numbers in CUDA_VISIBLE_DEVICES leave open which card is meant); `pin`
    is the value of CUDA_VISIBLE_DEVICES with which a process sees this card alone."""

    name: str
    pin: str


@lru_cache(maxsize=1)
def find_cards() -> tuple[tuple[Card, ...], str]:
    """The cards, and in one line why there are none. The driver is asked once a process: 20 ms or more."""
    found, why_none = _installed_cards()
    if found and (chosen := os.environ.get(VISIBLE_ENV)) is not None:
        return visible(found, chosen), f"{VISIBLE_ENV} is {chosen!r}, which leaves no NVIDIA card"
    return found, why_none


def visible(installed: Sequence[Card], chosen: str) -> tuple[Card, ...]:
    """What a value of CUDA_VISIBLE_DEVICES leaves, in its order: as in CUDA, the first entry that names no card ends it.

    An entry is a number or the beginning of a UUID. Numbers count in CUDA's order, which is not NVML's on every machine,
    so a card that is meant by number has a name only where all have the same.
    """
    names = {card.name for card in installed}
    common = names.pop() if len(names) == 1 else ""
    left: list[Card] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if entry.isdecimal() and int(entry) < len(installed):
            left.append(Card(common, entry))
        elif matching := [card for card in installed if entry and card.pin.startswith(entry)]:
            left.append(matching[0])
        elif entry.startswith("MIG-"):
            left.append(Card(common, entry))
        else:
            break
    return tuple(left)


def _installed_cards() -> tuple[tuple[Card, ...], str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return (), "no NVIDIA driver is installed"
    except pynvml.NVMLError as error:
        return (), f"the NVIDIA driver does not work ({error})"
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        found = [Card(pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError as error:
        return (), f"the NVIDIA cards cannot be listed ({error})"
    finally:
        pynvml.nvmlShutdown()
    return tuple(found), "no NVIDIA card was found"
