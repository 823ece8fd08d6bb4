"""Work on a Ray cluster: calls of one function on many items, done again where a worker dies.

Nothing here knows films. Ray's own retries are off, because they are silent: who waits for a film wants to know that a machine is
gone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import drba
from drba.errors import DrbaError, InputError, ServerError

log = logging.getLogger(__name__)

LOCAL = "local"
ADDRESS_PREFIX = "ray://"
INSTALL = "pip install 'drba-player[cluster]'"
#: A call is begun at most this many times: more deaths are no machine's bad luck but the call's own doing (memory, a crash).
MAX_ATTEMPTS = 4
#: Calls handed to Ray for each worker: the next one's is there when one is finished, and few are lost with the program.
CALLS_A_WORKER = 2
CHECK_S = 0.25

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_address(address: str) -> str:
    """`local` or ray://HOST:PORT; InputError otherwise, or where Ray is not installed."""
    if address != LOCAL and not address.startswith(ADDRESS_PREFIX):
        raise InputError(f"cluster {address!r}: expected 'local' or the address of a Ray head such as ray://host:10001")
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise InputError(f"--cluster needs Ray, which is not installed ({error.name}); {INSTALL}") from error
    return address


@dataclass(frozen=True)
class Share:
    """What one call takes of its machine."""

    cpus: float = 1
    gpus: float = 0


class Cluster:
    """A connection to a cluster, or to a private one on this machine. One a process; close it, or use `with`."""

    def __init__(self, address: str) -> None:
        """Connect to `address` (`check_address`); ServerError where that does not work."""
        self.local = check_address(address) == LOCAL
        import ray

        self._ray: Any = ray
        self._output = contextlib.ExitStack()
        # Ray writes of dead workers to standard output, whatever it is told; that belongs to the program's results.
        self._output.enter_context(contextlib.redirect_stdout(_ToLog()))
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if self.local:
            options |= {"address": "local", "include_dashboard": False}
        else:
            options |= {"address": address}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what it raises anyway
                ray.init(**options)
        except Exception as error:  # Ray raises whatever it met: connection, versions, gRPC
            self._output.close()
            hint = "" if self.local else "; does it run, and want a token (RAY_AUTH_MODE=token)?"
            raise ServerError(f"cluster {address}: {_line(error)}{hint}") from error
        log.info("cluster %s: %s", address, ray.cluster_resources())

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, ending the calls that are still running; a local one ends."""
        self._ray.shutdown()
        self._output.close()

    @property
    def cpus(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 0))

    @property
    def gpus(self) -> int:
        return int(self._ray.cluster_resources().get("GPU", 0))

    @property
    def least_cpus(self) -> int:
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        return min((int(node["Resources"].get("CPU", 0)) for node in nodes), default=0) or 1

    def workers(self, share: Share) -> int:
        """How many calls run at once."""
        by_gpu = self.gpus / share.gpus if share.gpus else float("inf")
        return max(1, int(min(self.cpus / share.cpus, by_gpu)))

    def run(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        share: Share,
        on_death: Callable[[Item, int], None],
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Item, Result]]:
        """`function` of each item on some worker, as they finish. Items and results are sent over the network.

        `function` must be importable on every machine. Where a worker or its machine dies, `on_death(item, attempts so far)` is
        called and the item is given to another one; ServerError after MAX_ATTEMPTS. What `function` raises is raised here:
        a DrbaError as it is, anything else as ServerError. `check` is called a few times a second while waiting; what it raises
        ends the calls.
        """
        ray = self._ray
        remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(_call)
        remote = remote.options(name=function.__name__)
        here = socket.gethostname()

        def call(item: Item) -> Any:
            return remote.remote(function, item, drba.__version__, here)

        waiting: dict[Any, tuple[Item, int]] = {}
        unasked = iter(items)
        room = CALLS_A_WORKER * self.workers(share)
        try:
            while True:
                while len(waiting) < room and (item := next(unasked, None)) is not None:
                    waiting[call(item)] = (item, 1)
                if not waiting:
                    return
                check()
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=CHECK_S)
                if not done:
                    continue
                item, attempts = waiting.pop(done[0])
                try:
                    answer = ray.get(done[0])
                except ray.exceptions.RayTaskError as error:
                    raise self._translated(error) from error
                except ray.exceptions.RayError as error:
                    log.info("%s", error)
                    if attempts == MAX_ATTEMPTS:
                        raise ServerError(
                            f"workers died {attempts} times over the same work ({_line(error)}); a smaller share of memory "
                            "a machine, or Ray's log, may help"
                        ) from error
                    on_death(item, attempts)
                    waiting[call(item)] = (item, attempts + 1)
                    continue
                yield item, answer
        finally:
            for unfinished in waiting:
                ray.cancel(unfinished, force=True)

    def _translated(self, error: Any) -> DrbaError:
        """What went wrong in the call."""
        cause = error.cause
        if isinstance(cause, DrbaError):
            return cause
        if isinstance(cause, ModuleNotFoundError):
            return ServerError(f"{cause}; install drba-player {drba.__version__} on all machines of the cluster")
        log.error("%s", error)
        return ServerError(f"a worker failed: {type(cause).__name__}: {_line(cause)}")


def _call(function: Callable[[Any], Any], item: Any, version: str, caller: str) -> Any:
    """On the worker, for the machine `caller`."""
    try:
        if version != drba.__version__:
            raise ServerError(
                f"drba-player is {drba.__version__} there, {version} here; install the same on all machines"
            )
        return function(item)
    except DrbaError as error:
        host = socket.gethostname()
        raise type(error)(str(error) if host == caller else f"on {host}: {error}") from error


class _ToLog(io.TextIOBase):
    def write(self, text: str) -> int:
        if text.strip():
            log.info("%s", text.strip())
        return len(text)


def _line(error: BaseException) -> str:
    """The first line that says something; Ray's messages are pages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
