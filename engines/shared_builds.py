"""One build for all streams that need the same engine: what one viewer gives up, another one still gets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from .base import Build

ENDED = ("done", "failed", "cancelled")


class SharedBuilds:
    """The builds that have not ended, by what they make. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shares: dict[Hashable, list[Share]] = {}
        self._builds: dict[Hashable, Build] = {}

    def join(self, key: Hashable, start: Callable[[], Build]) -> Share:
        """A share of the build that makes `key`; `start` begins one where there is none."""
        with self._lock:
            build = self._builds.get(key)
            if build is None or build.state in ENDED:
                build = self._builds[key] = start()
                self._shares[key] = []
                build.watch(lambda: self._build_changed(key, build))
            share = Share(self, key, build)
            self._shares[key].append(share)
            return share

    def _build_changed(self, key: Hashable, build: Build) -> None:
        with self._lock:
            if self._builds.get(key) is not build:
                return
            shares = list(self._shares[key])
            if build.state in ENDED:
                del self._builds[key], self._shares[key]
        for share in shares:
            share.changed()

    def remove(self, share: Share, *, finish: bool) -> None:
        """Take a share out. Without others the build is cancelled, but for one that has begun where it is to `finish`."""
        with self._lock:
            shares = self._shares.get(share.key, [])
            if self._builds.get(share.key) is not share.build or share not in shares:
                return
            shares.remove(share)
            if shares or (finish and share.build.state != "waiting"):
                return
            del self._builds[share.key], self._shares[share.key]  # who comes now begins anew
        share.build.cancel()


class Share:
    """One stream's view of a build: see `base.SharedBuild`."""

    def __init__(self, builds: SharedBuilds, key: Hashable, build: Build) -> None:
        self.key, self.build = key, build
        self.changed: Callable[[], None] = lambda: None
        self._builds = builds
        self._given_up = False

    @property
    def name(self) -> str:
        return self.build.name

    @property
    def state(self) -> str:
        return "cancelled" if self._given_up else self.build.state

    @property
    def progress(self) -> float:
        return self.build.progress

    @property
    def message(self) -> str:
        return "cancelled" if self._given_up else self.build.message

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def cancel(self) -> None:
        if self.build.state in ENDED:
            return
        self._given_up = True
        self._builds.remove(self, finish=False)
        self.changed()

    def leave(self) -> None:
        self._builds.remove(self, finish=True)
