"""`drba pair`: lets a laptop borrow this machine's card, or this machine another one's."""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = """\
Makes two machines known to each other, so that one can render for the other over the network. On the machine with the
card, `drba pair` prints a line and waits; on the other one, `drba pair LINE` with that line. The line holds a code that
counts once and for ten minutes: whoever has it in that time can pair instead of you, so hand it over privately. Then run
`drba-server --listen` on the machine with the card and `drba-player --server NAME film.mkv` on the other one."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "pair", help="let another machine use this one's card, or the other way round", description=DESCRIPTION
    )
    parser.add_argument("line", nargs="?", metavar="LINE", help="what drba pair printed on the machine with the card")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="say which machines are paired with this one")
    action.add_argument("--remove", metavar="NAME", help="forget a machine; it is refused from the next second on")
    parser.add_argument(
        "--name", metavar="NAME", help="what this machine is called by the other one (default: its host name)"
    )
    parser.add_argument("--address", metavar="HOST", help="where others find this machine (default: found out)")
    parser.add_argument("--port", type=_port, metavar="N", help="that drba-server listens at (default: 4780)")
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port from 1 to 65534; drba pair waits at the next one")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    from server import keys

    if arguments.list:
        _list(keys.paired())
    elif arguments.remove is not None:
        _remove(arguments.remove)
    elif arguments.line is not None:
        _take_up(arguments)
    else:
        _offer(arguments)
    return 0


def _list(known: Any) -> None:
    for server in known.servers.values():
        print(f"{server.name}: renders for this machine, at {server.endpoint}")
    for name in known.clients:
        print(f"{name}: may use this machine's drba-server")
    if not known.servers and not known.clients:
        print("no machine is paired with this one")


def _remove(name: str) -> None:
    from drba.errors import InputError
    from server import keys

    if not keys.remove(name):
        known = keys.paired()
        names = ", ".join(dict.fromkeys([*known.servers, *known.clients])) or "none is paired"
        raise InputError(f"no machine {name!r} is paired with this one; expected one of: {names}")
    print(f"{name} is no longer paired; run drba pair --remove on that machine too")


def _own_name(arguments: argparse.Namespace) -> str:
    import platform

    from server.keys import check_name
    from server.pairing import machine_name

    return check_name(arguments.name) if arguments.name else machine_name(platform.node())


def _offer(arguments: argparse.Namespace) -> None:
    from drba.errors import ServerError
    from server.keys import DEFAULT_PORT, check_endpoint
    from server.pair_sockets import Offer, network_address

    address = arguments.address or network_address()
    if address is None:
        raise ServerError("this machine's address in the network was not found; give it with --address")
    port = arguments.port or DEFAULT_PORT
    check_endpoint(f"tcp://{address}:{port}")
    with Offer(_own_name(arguments), address, port + 1, port) as offer:
        print("On the other machine, within ten minutes:\n")
        print(f"    drba pair '{offer.invitation}'\n", flush=True)
        name = offer.wait()
    listen = "--listen" if port == DEFAULT_PORT else f"--listen tcp://*:{port}"
    print(f"{name} may use this machine now. Let it be served with: drba-server {listen}")
    print(f"If that is not the machine that you meant: drba pair --remove {name}")


def _take_up(arguments: argparse.Namespace) -> None:
    from server.pair_sockets import take_up
    from server.pairing import Invitation

    server = take_up(Invitation.parse(arguments.line), _own_name(arguments))
    print(f"paired with {server.name}. Play with: drba-player --server {server.name} film.mkv")
