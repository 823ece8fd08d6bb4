"""What docs/security.md says is kept out: web pages, other users of the machine, traps in folders, models that are code."""

from __future__ import annotations

import ast
import asyncio
import io
import os
import pickle
import re
import socket
import stat
import sys
import tarfile
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from helpers_server import private_place, soon
from http_track import Pictures, Published, published
from other_user import NOBODY, needs_root, says, start

from drba import whole_files
from drba.errors import DrbaError, EngineError, InputError, ModelError, ServerError
from drba.integrity import verify, write_atomically
from drba.kept import KeptFacts, cache_folder
from drba.models import find
from engines.engine_cache import EngineCache
from player import http_connections
from player.http_connections import MAX_CONNECTIONS, MAX_REQUEST_BYTES
from player.http_server import parse_range
from player.mpv_ipc import MpvIpc
from player.options import load_config
from player.peer_user import find_uid, uid_of_client
from player.setup.probe import ask_module
from server.card import CardProcess, Device
from server.client import server_status, stop_server
from server.logs import rotating_handler
from server.runtime import default_endpoint, log_folder, socket_path
from server.shared import FramePool

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("drba", "engines", "server", "player")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


# --- web pages --------------------------------------------------------------------------------------------------------


def test_the_player_gets_what_it_asks_for_and_nobody_else_anything() -> None:
    async def test() -> None:
        async with published() as film:
            whole = film.content(0, film.file.size)
            assert len(whole) == film.file.size
            assert await ask(film) == (200, whole)
            assert await ask(film, "Range: bytes=100-") == (206, whole[100:])
            assert await ask(film, "Range: bytes=100-199", method="HEAD") == (206, b"")
            for foreign in (
                ("Origin: https://evil.example",),
                ("Origin: null",),
                ("Origin:",),
                ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),  # <video src=...>
                ("Sec-Fetch-Site: same-origin",),  # a name of theirs that leads here
            ):
                assert await ask(film, *foreign) == (404, b""), foreign
            port = film.server.port
            for host in ("evil.example", f"evil.example:{port}", f"localhost:{port}", "127.0.0.1", "", f"[::1]:{port}"):
                assert await ask(film, host=host) == (404, b""), host
            for path in (
                "/",
                "/video.mkv",
                film.path + "/",
                film.path[:-1],
                film.path + "?",
                film.path.upper(),
                film.url,
            ):
                assert await ask(film, path=path) == (404, b""), path
            assert await ask(film, path=film.path[:5] + "\u00ff" + film.path[6:]) in ((400, b""), (404, b""))
            for method in ("POST", "PUT", "OPTIONS", "DELETE", "TRACE", "PATCH"):
                assert await ask(film, method=method) == (405, b""), method
            assert await ask(film, "Content-Length: 5") == (413, b"")
            assert await ask(film, "Transfer-Encoding: chunked") == (413, b"")
            status, headers, _ = await film.answer(film.request("Range: bytes=0-9"))
            assert status == 206 and not [name for name in headers if name.startswith("access-control")]
            assert headers["connection"] == "close"

    run(test())


async def ask(film: Published, *lines: str, **request: str) -> tuple[int, bytes]:
    status, _, body = await film.answer(film.request(*lines, **request))
    return status, body if status in (200, 206, 404) else b""


def test_an_origin_that_the_viewer_has_mpv_say_to_every_server_is_no_web_page() -> None:
    async def test() -> None:
        async with published(origin="https://site.example") as film:
            assert (await ask(film, "Origin: https://site.example", "Range: bytes=0-9"))[0] == 206
            assert (await ask(film, "Range: bytes=0-9"))[0] == 206
            assert (await ask(film, "Origin: https://evil.example"))[0] == 404

    run(test())


def test_paths_are_as_good_as_keys_and_differ() -> None:
    async def test() -> None:
        async with published() as one, published() as two:
            tokens = {film.path.split("/")[1] for film in (one, two)}
            assert len(tokens) == 2 and all(len(token) == 32 for token in tokens), "192 random bits each"
            assert (await ask(one, path=two.path))[0] == 404

    run(test())


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, (0, 999)),
        ("bytes=0-", (0, 999)),
        ("bytes=10-19", (10, 19)),
        ("bytes=10-5000", (10, 999)),
        ("bytes=-10", (990, 999)),
        ("bytes=-5000", (0, 999)),
        ("bytes=-0", None),
        ("bytes=-", None),
        ("bytes=20-10", None),
        ("bytes=1000-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=0x1-", None),
        ("bytes=+1-", None),
        ("bytes=\u0663-", None),  # a digit elsewhere
        ("bytes=" + "9" * 5000 + "-", None),  # more than Python makes a number of
        ("frames=1-2", None),
        ("", None),
    ],
)
def test_only_one_range_that_the_file_has_is_served(header: str | None, wanted: tuple[int, int] | None) -> None:
    assert parse_range(header, 1000) == wanted


# --- who does not ask, or not listen ----------------------------------------------------------------------------------


def test_who_does_not_finish_a_request_is_cut_off_and_a_paused_player_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "REQUEST_TIMEOUT_S", 0.3)

    async def test() -> None:
        async with published(frames=4000, size=(256, 144)) as film:
            reader, writer = await film.connect()
            writer.write(film.request())
            assert await reader.readuntil(b"\r\n\r\n")
            slow = [await film.connect() for _ in range(3)]
            slow[1][1].write(b"GET / HTTP/1.1\r\n")
            slow[2][1].write(film.request(path="/wrong")[:-2])
            for other, _ in slow:
                assert await closed(other)
            count = 12_000_000
            assert film.file.size > 10 * count, "far more than the sockets and the reader hold"
            assert await reader.readexactly(count) == film.content(0, count), "as long as it paused, it reads on now"
            writer.close()

    run(test())


def test_a_fault_in_the_middle_of_the_film_ends_the_connection_and_adds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Pictures.frames

    async def three(self: Pictures) -> AsyncGenerator[Any, None]:
        async with aclosing(whole(self)) as frames:
            async for frame in frames:
                if frame[0] == 3:
                    raise RuntimeError("a bug")
                yield frame

    monkeypatch.setattr(Pictures, "frames", three)

    async def test() -> None:
        async with published() as film:
            _, _, body = await film.answer(film.request())
            assert body == film.content(0, film.file.offset_of(3))

    run(test())


async def closed(reader: asyncio.StreamReader) -> bool:
    """Until the other end closes; whether it said nothing before."""
    try:
        return await reader.read(-1) == b""
    except ConnectionError:
        return True


def test_a_request_without_end_is_cut_off() -> None:
    async def test() -> None:
        async with published() as film:
            for endless in (b"GET /" + b"a" * MAX_REQUEST_BYTES, film.request()[:-2] + b"a: b\r\n" * MAX_REQUEST_BYTES):
                status, _, _ = await film.answer(endless)
                assert status in (0, 400)
            assert (await ask(film, "Range: bytes=0-9"))[0] == 206

    run(test())


def test_many_connections_that_say_nothing_keep_the_player_neither_out_nor_from_reading_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connections, "REQUEST_TIMEOUT_S", 60.0)  # which is not what closes them here

    async def test() -> None:
        async with published(frames=4000, size=(256, 144)) as film:
            reader, writer = await film.connect()
            writer.write(film.request("Range: bytes=5000-"))
            await reader.readuntil(b"\r\n\r\n")
            idle = [await film.connect() for _ in range(3 * MAX_CONNECTIONS)]
            assert (await ask(film, "Range: bytes=0-9"))[0] == 206
            while sum(not other.at_eof() for other, _ in idle) > MAX_CONNECTIONS:
                await asyncio.sleep(0.001)
            count = 12_000_000  # more than was on its way
            assert await reader.readexactly(count) == film.content(5000, count)
            for _, other in (*idle, (reader, writer)):
                other.close()

    run(test())


# --- other users ------------------------------------------------------------------------------------------------------

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:A4F3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 686118 1 0 100 0 0 10 0
   1: 0100007F:A4F3 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 686119 1 0 100 0 0 10 0
   2: 0100007F:D431 0100007F:A4F3 01 00000000:00000000 00:00000000 00000000  1001        0 686120 1 0 100 0 0 10 0
   3: 0000000000000000FFFF00000100007F:D432 0000000000000000FFFF00000100007F:A4F3 01 0:0 00:0 0  1002        0 686121
"""


def test_the_kernel_says_whose_a_connection_is() -> None:
    server = ("127.0.0.1", 0xA4F3)
    assert find_uid(TABLE.splitlines(), ("127.0.0.1", 0xD431), server) == 1001
    assert find_uid(TABLE.splitlines(), ("127.0.0.1", 0xD432), server) == 1002
    assert find_uid(TABLE.splitlines(), ("127.0.0.1", 0xD433), server) is None
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        assert uid_of_client(client.getsockname(), listening.getsockname()) == os.geteuid()


GET = """
host, port, request = sys.argv[1:]
with socket.create_connection((host, int(port)), 5) as connection:
    connection.sendall(request.encode())
    print(connection.recv(100).split(b"\\r\\n")[0].decode())
"""


@needs_root
def test_another_user_who_has_learnt_a_path_gets_nothing() -> None:
    async def test() -> None:
        async with published() as film:
            request = film.request("Range: bytes=0-9").decode()
            for host in ("127.0.0.1", "::ffff:127.0.0.1"):
                mine = await asyncio.to_thread(says, GET, host, film.server.port, request, user=0)
                assert mine == "HTTP/1.1 206 Partial Content"
                theirs = await asyncio.to_thread(says, GET, host, film.server.port, request)
                assert theirs == "HTTP/1.1 404 Not Found"

    run(test())


SAY_HELLO = """
client = zmq.Context().socket(zmq.DEALER)
client.linger = 0
client.connect(sys.argv[1])
client.send(bytes.fromhex(sys.argv[2]))
print("answered" if client.poll(int(sys.argv[3])) else "nothing")
"""
CONNECT = """
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print("connected")
except OSError as error:
    print(error.strerror)
"""


@needs_root
def test_another_user_does_not_reach_the_server_also_where_its_folder_was_opened_to_all() -> None:
    from server.messages import Hello
    from server.protocol import serialize

    with private_place() as place, place.start():
        soon(lambda: server_status() is not None)
        endpoint, path = default_endpoint(), socket_path(default_endpoint())
        hello = bytes(serialize(Hello())[0]).hex()
        assert path is not None and says(CONNECT, path, user=0) == "connected"
        assert says(CONNECT, path) == "Permission denied"
        place.folder.chmod(0o755)
        path.chmod(0o777)
        try:
            assert says(CONNECT, path) == "connected", "the modes do not keep anybody out now"
            assert says(SAY_HELLO, endpoint, hello, 5000, user=0) == "answered"
            assert says(SAY_HELLO, endpoint, hello, 700) == "nothing"
            with pytest.raises(ServerError, match="has mode 0755, expected 0700"):
                server_status()
        finally:
            place.folder.chmod(0o700)
        assert stop_server()


OPEN = """
try:
    print(open(sys.argv[1], "rb").read(4))
except OSError as error:
    print(error.strerror)
"""


@needs_root
def test_another_user_cannot_read_frames_in_shared_memory() -> None:
    pool = FramePool(4096, 2)
    assert pool.shared is not None
    pool.buffer(0)[:4] = b"film"
    place = f"/proc/{pool.shared.pid}/fd/{pool.shared.fd}"
    assert says(OPEN, place, user=0) == "b'film'"
    assert says(OPEN, place) == "Permission denied"
    assert says(OPEN, f"/proc/{os.getpid()}/mem") == "Permission denied"
    pool.close()


LISTEN = """
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listening.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@needs_root
def test_the_bridge_obeys_no_other_users_player(tmp_path_factory: pytest.TempPathFactory) -> None:
    """`input-ipc-server=/tmp/mpvsocket` is what many people have: whoever has put a socket there first would be mpv."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = f"{folder}/mpvsocket"
        for user in (0, NOBODY):
            with start(LISTEN, path, user=user) as listening:
                assert listening.stdout is not None and listening.stdout.readline() == "ready\n"
                if user == 0:
                    asyncio.run(connect_to(path))
                else:
                    with pytest.raises(DrbaError, match=f"is user {NOBODY}'s, expected 0's; have input-ipc-server"):
                        asyncio.run(connect_to(path))
                listening.communicate()
            os.unlink(path)


async def connect_to(path: str) -> None:
    ipc = await MpvIpc.connect(path)
    await ipc.close()


# --- files and folders ------------------------------------------------------------------------------------------------


def to_everybody(path: Path) -> None:
    path.chmod(0o777)


def to_another_user(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def to_another_users_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    os.lchown(path, NOBODY, NOBODY)


@pytest.mark.parametrize(
    "give",
    [
        to_everybody,
        pytest.param(to_another_user, marks=needs_root),
        pytest.param(to_another_users_link, marks=needs_root),
    ],
)
@pytest.mark.parametrize(
    ("use", "name", "error"),
    [
        (cache_folder, "cache", InputError),
        (lambda: KeptFacts("levels.json"), "cache", InputError),
        (lambda: EngineCache().put({"model": "m"}, b"engine"), "cache", InputError),
        (lambda: EngineCache(Path("cache")).get({"model": "m"}), "cache", EngineError),
        (lambda: load_config(Path("config.toml")), "config.toml", InputError),
        (lambda: verify(find("rife-4.26")), "weights/rife-4.26", ModelError),
        (log_folder, "run", ServerError),
        (default_endpoint, "run", ServerError),
    ],
    ids=["cache", "measurements", "engines' parent", "engines", "config", "weights", "logs", "runtime"],
)
def test_what_others_could_have_put_there_is_refused_in_one_line(
    use: Callable[[], object],
    name: str,
    error: type[DrbaError],
    give: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DRBA_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path))
    for folder in ("cache", "run", "weights", "weights/rife-4.26"):
        (tmp_path / folder).mkdir(mode=0o700)
    (tmp_path / "config.toml").write_text('fps = "60"\n')
    EngineCache(tmp_path / "cache").put({"model": "m"}, b"engine")
    use()
    give(tmp_path / name)
    with pytest.raises(error) as refused:
        use()
    assert name in str(refused.value) and "\n" not in str(refused.value)
    assert re.search("expected|by everybody|is a link", str(refused.value))


def test_logs_are_the_users_own(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        rotating_handler(tmp_path / "bridge.log").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "bridge.log").stat().st_mode) == 0o600


def test_no_file_is_written_through_a_link_that_was_put_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    names = {whole_files.temporary_beside(tmp_path / "facts.json") for _ in range(50)}
    assert len(names) == 50, "nobody can guess one"
    monkeypatch.setattr(whole_files.secrets, "token_hex", lambda count: "guessed")
    whole_files.temporary_beside(tmp_path / "facts.json").symlink_to(victim)
    with pytest.raises(ModelError, match="File exists"):
        write_atomically(tmp_path / "facts.json", b"{}")
    assert victim.read_text() == "precious"


# --- programs ---------------------------------------------------------------------------------------------------------


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a module, by the dotted name that it is made under."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


SHELLS = re.compile(
    r"os\.(system|popen|exec\w+|spawn\w+)|subprocess\.get(status)?output|asyncio\.create_subprocess_shell|commands\..*"
    r"|eval|exec|compile|__import__|(c?pickle|marshal|shelve|dill|joblib)\.(load|loads|open|Unpickler)|tempfile\.mktemp"
)


#: What a process of ours hears from the one that started it, through a pipe that nobody else has.
OWN_PIPES = {("engines/measuring.py", "pickle.load")}


def test_no_shell_is_started_and_no_data_is_taken_for_code() -> None:
    for path in [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]:
        for name, call in calls(path):
            where = f"{path.relative_to(ROOT)}:{call.lineno}: {name}"
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert not SHELLS.fullmatch(name) or (path.relative_to(ROOT).as_posix(), name) in OWN_PIPES, where
            assert given.get("shell", "False") == "False", where
            assert given.get("allow_pickle", "False") == "False", where
            if name == "torch.load":
                assert given.get("weights_only") == "True", where


def test_the_script_starts_no_shell_and_loads_no_code() -> None:
    script = (ROOT / "mpv-scripts" / "drba.lua").read_text()
    code = "\n".join(line.split("--")[0] for line in script.splitlines())
    for word in (
        r"os\.execute",
        r"io\.popen",
        r"\bloadstring\b",
        r"\bload\s*\(",
        r"\bdofile\b",
        r'"(ba|da)?sh"',
        r'"run"',
    ):
        assert not re.search(word, code), word


TRAP = "import pathlib; pathlib.Path({!r}).touch()\n"


def test_python_is_not_started_where_a_film_may_have_brought_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m` looks for modules in the folder that it is started in first: the viewer's, with whatever they fetched."""
    caught = tmp_path / "caught"
    (tmp_path / "platform.py").write_text(TRAP.format(str(caught)))
    monkeypatch.chdir(tmp_path)
    answer = ask_module("platform", timeout_s=10)
    assert answer.out and not answer.failure and not caught.exists()
    place = tmp_path / "place"
    tell = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.getcwd())"
    card = CardProcess(Device("test"), [sys.executable, "-c", tell, str(place)], 1)
    soon(lambda: card.lost)
    assert place.read_text() == "/"


# --- models -----------------------------------------------------------------------------------------------------------


class Code:
    """What a pickle may hold instead of tensors."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("executed",)


def torch_file(zipped: bool) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"weight": Code()}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def tar_file() -> bytes:
    """PyTorch's oldest format, by which weights_only could be got around before 2.6."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("storages", "tensors", "pickle", "sys_info"):
            content = pickle.dumps(Code())
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [lambda: torch_file(True), lambda: torch_file(False), lambda: pickle.dumps(Code()), tar_file],
    ids=["zip", "legacy", "pickle", "tar"],
)
def test_a_model_that_is_code_is_refused_unexecuted(
    content: Callable[[], bytes], suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drba.networks.checkpoint import read_checkpoint

    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"model{suffix}"
    file.write_bytes(content())
    with pytest.raises(ModelError) as refused:
        read_checkpoint(file)
    assert "\n" not in str(refused.value)
    assert not Path("executed").exists()


def test_the_pytorch_that_is_asked_for_keeps_its_word() -> None:
    """weights_only could be got around before 2.6 (CVE-2025-32434)."""
    assert '"torch>=2.6"' in (ROOT / "pyproject.toml").read_text()
