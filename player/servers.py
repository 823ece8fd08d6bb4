"""The server that a bridge uses: the one that the viewer named, or this machine's own while that is away."""

from __future__ import annotations

import asyncio
import logging
import time

from drba.errors import ServerError
from server.client import Client
from server.keys import RemoteServer

log = logging.getLogger(__name__)

RETRY_S = 5.0  # between attempts to find a named server that was not there
AWAY_S = 5.0  # without it, after which a film goes on with this machine's own
BACK_S = 2.0  # that it has to be there again before the film returns to it


class Servers:
    """Belongs to one event loop. `remote` is None for this machine's own server alone."""

    def __init__(self, remote: RemoteServer | None) -> None:
        self.remote = remote
        self._own: asyncio.Task[Client] | None = None
        self._named: Client | None = None
        self._was_there = False  # the named one, as it was seen last,
        self._since = time.monotonic()  # and since when
        self._looked = asyncio.Event()  # the named server has answered once, or not
        self._search: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, so that a film that comes soon need not wait."""
        if self.remote is None:
            self._connect_own()
        else:
            self._search = asyncio.ensure_future(self._find(self.remote))

    async def client(self) -> Client:
        """The one to open a film with; ServerError if none can be had, and the next film tries again."""
        if self.remote is not None:
            await self._looked.wait()
            if self._named is not None and self._named.connected:
                return self._named
        return await self.own()

    async def own(self) -> Client:
        """This machine's."""
        if self._own is None or (self._own.done() and (self._own.cancelled() or self._own.exception())):
            self._connect_own()
        assert self._own is not None
        return await asyncio.shield(self._own)

    async def better_than(self, used: Client) -> Client | None:
        """The client that a film should go over to from the one that it uses; None to stay. To be asked now and then.
        A film whose server is away shows source frames."""
        if self.remote is None or self._named is None:
            return None
        there, now = self._named.connected, time.monotonic()
        if there != self._was_there:
            self._was_there, self._since = there, now
        if used is self._named:
            return await self.own() if not there and now - self._since > AWAY_S else None
        return self._named if there and now - self._since > BACK_S else None

    def second_choice(self, used: Client) -> str:
        """What to tell the viewer where a film is not rendered by the server that was named; else empty."""
        if self.remote is None or used is self._named:
            return ""
        return f"{self.remote.name} does not answer: this machine renders until it does"

    @property
    def back(self) -> str:
        return f"{self.remote.name} renders again" if self.remote else ""

    async def close(self) -> None:
        tasks = [task for task in (self._search, self._own) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        clients = [self._named]
        if self._own is not None and not self._own.cancelled() and self._own.exception() is None:
            clients.append(self._own.result())
        for client in clients:
            if client is not None:
                await client.close()

    def _connect_own(self) -> None:
        self._own = asyncio.ensure_future(Client.connect())

    async def _find(self, remote: RemoteServer) -> None:
        """Until it is there; from then on the client keeps the connection up by itself."""
        why_not = ""
        while self._named is None:
            try:
                self._named = await Client.connect(remote=remote)
                self._was_there, self._since = True, time.monotonic()
            except ServerError as error:
                if str(error) != why_not:
                    log.warning("%s", error)
                why_not = str(error)
            finally:
                self._looked.set()
            if self._named is None:
                await asyncio.sleep(RETRY_S)
        log.info("%s is there", remote.name)
