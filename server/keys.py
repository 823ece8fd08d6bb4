"""This machine's key pair, and the machines that it is paired with: two private files in the configuration folder.

Keys are those of CURVE (X25519) in ZeroMQ's Z85 form, 40 printable characters for 32 bytes.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs
import zmq
from zmq.utils import z85

from drba.errors import InputError, ServerError

from .private_file import locked, read_private, write_private

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
KEY_CHARACTERS = 40
TCP = "tcp://"
DEFAULT_PORT = 4780  # of servers that listen; `drba pair` waits at the next one


@dataclass(frozen=True)
class Identity:
    """This machine's keys. `secret` leaves neither its file nor this process."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class RemoteServer:
    """A paired server, under the name that it has here."""

    name: str
    endpoint: str
    key: str


@dataclass(frozen=True)
class Paired:
    """`servers` that this machine may use; `clients`, public keys by name, that may use this machine's."""

    servers: dict[str, RemoteServer] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)


def config_folder() -> Path:
    return Path(platformdirs.user_config_dir("drba-player"))


def identity_path() -> Path:
    return config_folder() / "identity.json"


def paired_path() -> Path:
    return config_folder() / "paired.json"


def identity() -> Identity:
    """This machine's keys, made on first use. ServerError where the file is not private or damaged."""
    path = identity_path()
    with locked(config_folder() / "paired.lock"):
        content = read_private(path)
        if content is None:
            public, secret = (key.decode() for key in zmq.curve_keypair())
            write_private(path, json.dumps({"public": public, "secret": secret}).encode())
            return Identity(public, secret)
    with _reading(path):
        data = json.loads(content)
        found = Identity(check_key(data["public"]), check_key(data["secret"]))
        if zmq.curve_public(found.secret.encode()).decode() != found.public:
            raise ValueError("the two keys are no pair")
        return found


def paired() -> Paired:
    """The machines that this one is paired with. ServerError where the file is not private or damaged."""
    path = paired_path()
    content = read_private(path)
    if content is None:
        return Paired()
    with _reading(path):
        data = json.loads(content)
        servers = {
            check_name(name): RemoteServer(name, check_endpoint(entry["endpoint"]), check_key(entry["key"]))
            for name, entry in data["servers"].items()
        }
        return Paired(servers, {check_name(name): check_key(key) for name, key in data["clients"].items()})


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise ServerError(f"file {path} is damaged ({error}); remove it, and pair again") from error


def add_server(name: str, endpoint: str, key: str) -> str:
    """Remember a server; the name that it has here. One of the same key keeps its name, a name that another key has gets a
    number."""
    with _changing() as known:
        servers = {other: server for other, server in known.servers.items() if server.key != key}
        name = next((other for other, server in known.servers.items() if server.key == key), None) or _free(
            name, servers
        )
        _write(replace(known, servers={**servers, name: RemoteServer(name, endpoint, key)}))
    return name


def add_client(name: str, key: str) -> str:
    """Let a machine use this one's server; its name, as in `add_server`."""
    with _changing() as known:
        clients = {other: found for other, found in known.clients.items() if found != key}
        name = next((other for other, found in known.clients.items() if found == key), None) or _free(name, clients)
        _write(replace(known, clients={**clients, name: key}))
    return name


def remove(name: str) -> bool:
    """Forget a machine in both roles; False if none has this name."""
    with _changing() as known:
        if name not in known.servers and name not in known.clients:
            return False
        servers = {other: server for other, server in known.servers.items() if other != name}
        _write(Paired(servers, {other: key for other, key in known.clients.items() if other != name}))
    return True


@contextlib.contextmanager
def _changing() -> Iterator[Paired]:
    with locked(config_folder() / "paired.lock"):
        yield paired()


def _write(known: Paired) -> None:
    data = {
        "servers": {name: {"endpoint": server.endpoint, "key": server.key} for name, server in known.servers.items()},
        "clients": known.clients,
    }
    write_private(paired_path(), (json.dumps(data, indent=1) + "\n").encode())


def _free(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name[:28]}-{number}" for number in range(2, 1000))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def check_key(text: object) -> str:
    """InputError for what is no key."""
    if isinstance(text, str) and len(text) == KEY_CHARACTERS and text.isascii():
        with contextlib.suppress(ValueError, KeyError):
            if len(z85.decode(text)) == 32:
                return text
    raise InputError(f"key {str(text)[:50]!r} is none; expected {KEY_CHARACTERS} characters of Z85")


def check_name(text: object) -> str:
    if isinstance(text, str) and NAME.fullmatch(text):
        return text
    raise InputError(f"name {str(text)[:50]!r} cannot be used; expected up to 32 letters, digits, dots, dashes")


def check_endpoint(text: object) -> str:
    """`tcp://HOST:PORT`; InputError for anything else."""
    if isinstance(text, str) and re.fullmatch(r"tcp://(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9.*_-]+):[0-9]{1,5}", text):
        port = int(text.rpartition(":")[2])
        if 0 < port < 65536:
            return text
    raise InputError(f"address {str(text)[:80]!r} cannot be used; expected tcp://HOST:PORT")


def find_server(text: str) -> RemoteServer:
    """A paired server, by its name here or its tcp://HOST:PORT; InputError where there is none."""
    servers = paired().servers
    for server in servers.values():
        if text in (server.name, server.endpoint):
            return server
    known = f"paired: {', '.join(servers)}" if servers else "none is paired"
    what = "plain TCP is not used" if text.startswith(TCP) else "expected a paired machine's name or tcp://HOST:PORT"
    raise InputError(f"server {text!r} is not paired with this machine ({known}), and {what}; see `drba pair --help`")
