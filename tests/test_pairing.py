"""`drba pair`: keys and who has them, codes that count once, and strangers at the door. Real sockets on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq
from helpers_server import ROOT, free_port
from remote_helpers import machine

from drba.errors import DrbaError, InputError, ProtocolError, ServerError
from player.cli import main
from server import keys
from server.curve import AllowedClients, secure_client
from server.keys import Identity
from server.pair_sockets import Offer, take_up
from server.pairing import (
    MAX_WRONG,
    VALID_S,
    Answer,
    Invitation,
    OneTimeCode,
    Question,
    machine_name,
    pack_answer,
    pack_question,
    unpack_answer,
    unpack_question,
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "laptop"))


@pytest.fixture
def offer(tmp_path: Path) -> Iterator[Offer]:
    with machine(tmp_path / "desktop"), Offer("desktop", "127.0.0.1", free_port(), 4780) as made:
        yield made


# --- what is said -----------------------------------------------------------------------------------------------------


def test_the_line_survives_a_shell_and_a_copy() -> None:
    for endpoint in ("tcp://192.168.1.20:4781", "tcp://desktop.lan:4781", "tcp://[fe80::1]:4781"):
        given = Invitation(endpoint, zmq.curve_keypair()[0].decode(), OneTimeCode().text)
        assert Invitation.parse(f"  {given}\n") == given
        assert re.fullmatch(r"[A-Za-z0-9._:/\[\]-]+", str(given))


@pytest.mark.parametrize(
    "line",
    ["", "desktop", "desktop:4781/short/ABCDEFGH", "desktop:4781/" + "A" * 43, "desktop:4781/" + "A" * 43 + "/ABC",
     "desktop:99999/" + "A" * 43 + "/ABCDEFGH", "a b:1/" + "A" * 43 + "/ABCDEFGH", "desktop:4781/" + "!" * 43 + "/ABCDEFGH"],
)  # fmt: skip
def test_what_is_no_line_is_refused_in_one(line: str) -> None:
    with pytest.raises(InputError, match="expected HOST:PORT/KEY/CODE") as caught:
        Invitation.parse(line)
    assert "\n" not in str(caught.value)


def test_a_code_counts_once() -> None:
    code = OneTimeCode()
    assert code.take(code.text) and not code.take(code.text) and code.left_s == 0


def test_a_code_counts_for_ten_minutes() -> None:
    clock = Clock()
    code = OneTimeCode(clock)
    clock.now_s += VALID_S - 1
    assert code.left_s == 1
    clock.now_s += 1
    assert code.left_s == 0 and not code.take(code.text)


def test_three_wrong_codes_end_it_for_the_right_one_too() -> None:
    code = OneTimeCode()
    wrong = "A" * 8 if code.text != "A" * 8 else "B" * 8
    assert not any(code.take(text) for text in (wrong, "", "ü" * 64))
    assert code.wrong == MAX_WRONG and not code.take(code.text)


def test_codes_differ() -> None:
    assert len({OneTimeCode().text for _ in range(50)}) == 50


def test_messages_come_back_and_others_are_refused() -> None:
    question, answer = Question("ABCDEFGH", "laptop"), Answer(True, "desktop", 4780)
    assert unpack_question(pack_question(question)) == question
    assert unpack_answer(pack_answer(answer)) == answer
    for data in (
        b"",
        b"\xc1",
        b"\x80",
        b"\x91" * 500,
        b"x" * 2000,
        pack_answer(answer),
        pack_question(Question("A", "a\x1bb")),
    ):
        with pytest.raises(ProtocolError):
            unpack_question(data)
    for answer in (Answer(True, "../../etc", 4780), Answer(True, "desktop", 0), Answer(True, "", 1)):
        with pytest.raises(ProtocolError):
            unpack_answer(pack_answer(answer))


@pytest.mark.parametrize(
    ("host", "name"), [("desktop", "desktop"), ("Günter's PC.local", "G-nter-s-PC"), ("x" * 99, "x" * 32), ("-a-", "a")]
)
def test_host_names_become_names(host: str, name: str) -> None:
    assert machine_name(host) == name


def test_a_host_name_with_nothing_in_it_asks_for_another() -> None:
    with pytest.raises(InputError, match="give another with --name"):
        machine_name("日本")


# --- files ------------------------------------------------------------------------------------------------------------


def test_keys_are_made_once_and_are_the_users_alone() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: keys.identity(), range(16)))
    assert len(made) == 1
    keys.add_client("laptop", made.pop().public)
    for path in (keys.identity_path(), keys.paired_path()):
        assert path.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in keys.config_folder().iterdir()} == {"identity.json", "paired.json", "paired.lock"}


def test_the_secret_key_is_in_no_text() -> None:
    own = keys.identity()
    assert own.secret not in repr(own) and own.public in repr(own)


def test_a_file_that_others_may_have_had_is_refused() -> None:
    own = keys.identity()
    keys.add_client("laptop", own.public)
    for path, read in ((keys.identity_path(), keys.identity), (keys.paired_path(), keys.paired)):
        path.chmod(0o640)
        with pytest.raises(ServerError, match="has mode 0640, expected 0600"):
            read()
        path.chmod(0o600)
        content = path.read_bytes()
        path.write_bytes(content[:-9])
        with pytest.raises(ServerError, match=r"is damaged .* remove it, and pair again"):
            read()
        elsewhere = path.with_name("elsewhere")
        elsewhere.write_bytes(content)
        elsewhere.chmod(0o600)
        path.unlink()
        path.symlink_to(elsewhere)
        with pytest.raises(ServerError, match="expected a file, not a link"):
            read()
        path.unlink()
        path.write_bytes(content)
        path.chmod(0o600)


def test_writing_replaces_a_link_and_leaves_what_it_leads_to(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    keys.identity()
    own = keys.identity_path().with_name("paired.json")
    from server.private_file import write_private

    own.symlink_to(target)
    write_private(own, b"{}")
    assert target.read_text() == "precious" and not own.is_symlink() and own.stat().st_mode & 0o777 == 0o600


def test_machines_keep_their_names_and_never_take_anothers() -> None:
    one, two = (zmq.curve_keypair()[0].decode() for _ in range(2))
    assert keys.add_client("laptop", one) == "laptop"
    assert keys.add_client("laptop", two) == "laptop-2"
    assert keys.add_client("renamed", one) == "laptop"
    assert keys.add_server("desktop", "tcp://a:1", one) == "desktop"
    assert keys.add_server("desktop", "tcp://b:2", one) == "desktop"
    assert keys.paired().servers["desktop"].endpoint == "tcp://b:2"
    assert keys.paired().clients == {"laptop": one, "laptop-2": two}
    assert keys.remove("laptop") and not keys.remove("laptop")
    assert keys.paired().clients == {"laptop-2": two}


def test_a_server_is_found_by_name_and_address_and_nothing_else() -> None:
    with pytest.raises(InputError, match="not paired with this machine \\(none is paired\\)"):
        keys.find_server("desktop")
    keys.add_server("desktop", "tcp://a:1", zmq.curve_keypair()[0].decode())
    assert keys.find_server("desktop") == keys.find_server("tcp://a:1")
    with pytest.raises(InputError, match=r"paired: desktop\), and plain TCP is not used"):
        keys.find_server("tcp://a:2")


def test_a_list_that_is_not_the_users_alone_lets_nobody_in() -> None:
    key, clock = zmq.curve_keypair()[0].decode(), Clock()
    allowed = AllowedClients(clock)
    assert key not in allowed
    for change, expected in (
        (lambda: keys.add_client("laptop", key), True),
        (lambda: keys.paired_path().chmod(0o666), True),  # it was read when nobody else could write
        (lambda: os.utime(keys.paired_path()), False),
        (lambda: keys.paired_path().unlink(), False),
    ):
        change()
        clock.now_s += 2
        assert (key in allowed) is expected


# --- two machines -----------------------------------------------------------------------------------------------------


def offering(folder: Path, *options: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "player.cli", "pair", "--address", "127.0.0.1", "--name", "desktop", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for text in process.stdout:
        if found := re.search(r"drba pair '(.*)'", text):
            return found[1]
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_two_machines_pair_by_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with offering(tmp_path / "desktop", "--port", str(port)) as process:
        line = line_of(process)
        assert main(["pair", line, "--name", "laptop"]) == 0
        assert "paired with desktop. Play with: drba-player --server desktop" in capsys.readouterr().out
        out, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")
        assert "laptop may use this machine now" in out
    desktop = keys.find_server("desktop")
    assert desktop.endpoint == f"tcp://127.0.0.1:{port}"
    with machine(tmp_path / "desktop"):
        assert keys.identity().public == desktop.key
        assert keys.paired().clients == {"laptop": json.loads(_laptop_identity(tmp_path))["public"]}
        assert keys.paired().servers == {}
    secrets = [json.loads(path.read_text())["secret"] for path in tmp_path.rglob("identity.json")]
    everything = "".join(path.read_text() for path in tmp_path.rglob("paired.json")) + line + out
    assert len(secrets) == 2 and not any(secret in everything for secret in secrets)
    assert main(["pair", "--list"]) == 0
    assert capsys.readouterr().out == f"desktop: renders for this machine, at tcp://127.0.0.1:{port}\n"
    assert main(["pair", "--remove", "desktop"]) == 0 and keys.paired().servers == {}
    assert main(["pair", "--remove", "desktop"]) == 2
    assert "expected one of: none is paired" in capsys.readouterr().err


def _laptop_identity(tmp_path: Path) -> str:
    (path,) = (tmp_path / "laptop").rglob("identity.json")
    return path.read_text()


def in_background(offer: Offer) -> tuple[threading.Thread, list[str | DrbaError]]:
    """The desktop waits."""
    result: list[str | DrbaError] = []

    def wait() -> None:
        try:
            result.append(offer.wait())
        except DrbaError as error:
            result.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, result


def say(offer: Offer, code: str, own: Identity) -> Answer | None:
    """What a machine that knows the desktop's key hears; None for nothing."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        secure_client(socket, own, offer.invitation.key)
        socket.connect(offer.invitation.endpoint)
        socket.send(pack_question(Question(code, "laptop")))
        return unpack_answer(socket.recv()) if socket.poll(3000) else None


def stranger() -> Identity:
    return Identity(*(key.decode() for key in zmq.curve_keypair()))


def test_wrong_codes_end_the_offer_and_nobody_is_paired(offer: Offer) -> None:
    thread, result = in_background(offer)
    wrong = "AAAAAAAA" if offer.invitation.code != "AAAAAAAA" else "BBBBBBBB"
    answers = [say(offer, wrong, stranger()) for _ in range(MAX_WRONG)]
    assert [answer and answer.accepted for answer in answers] == [False] * MAX_WRONG
    thread.join(10)
    assert "3 wrong codes were tried: nothing was paired" in str(result[0])
    assert keys.paired().clients == {}


def test_a_line_that_was_used_is_worth_nothing(offer: Offer) -> None:
    thread, result = in_background(offer)
    first = say(offer, offer.invitation.code, stranger())
    thread.join(10)
    assert first is not None and first.accepted and result == ["laptop"]
    again, result = in_background(offer)
    again.join(10)
    assert "nothing was paired" in str(result[0])
    assert len(keys.paired().clients) == 1


def test_whoever_does_not_know_the_key_gets_no_word_in(offer: Offer) -> None:
    thread, result = in_background(offer)
    with zmq.Context() as context:
        for make in (lambda socket: None, lambda socket: secure_client(socket, stranger(), stranger().public)):
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                make(socket)
                socket.connect(offer.invitation.endpoint)
                socket.send(pack_question(Question(offer.invitation.code, "mallory")))
                assert not socket.poll(250)
    assert thread.is_alive() and offer._code.wrong == 0
    assert say(offer, offer.invitation.code, stranger()) is not None
    thread.join(10)
    assert result == ["laptop"]


def test_a_wrong_line_says_so_on_the_laptop(tmp_path: Path) -> None:
    with machine(tmp_path / "desktop"):
        own = keys.identity()
    nobody = Invitation(f"tcp://127.0.0.1:{free_port()}", own.public, "ABCDEFGH")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ServerError, match="does not answer; is drba pair still"):
        patch.setattr("server.pair_sockets.ANSWER_TIMEOUT_S", 0.3)
        take_up(nobody, "laptop")
    with pytest.raises(InputError, match="this line is of this machine"):
        take_up(Invitation("tcp://127.0.0.1:1", keys.identity().public, "ABCDEFGH"), "laptop")
    assert keys.paired().servers == {}
