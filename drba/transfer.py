"""One file over HTTP into a partial file that a later call goes on with."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import ModelError

TIMEOUT_S = 30.0  # without any byte
CHUNK_BYTES = 1 << 18
ATTEMPTS = 5  # as long as each brings the file further
MAX_BYTES = 1 << 30  # the largest checkpoint has some 100 MB; a server that never ends must not fill the disk
USER_AGENT = "drba-player"

Report = Callable[[int, "int | None"], None]


class _BrokenError(Exception):
    """The connection ended early; another attempt may help."""


@dataclass
class Partial:
    """The beginning of a file. `can_check` says that the whole will be compared with a digest: without that, a beginning is
    only gone on with if the server can promise that the rest belongs to it."""

    path: Path
    url: str
    can_check: bool

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def resume_point(self) -> tuple[int, str]:
        """(bytes that are there and may be gone on with, validator for If-Range or "")."""
        try:
            size = self.path.stat().st_size
            note = json.loads(self._note.read_text(encoding="utf-8"))
            validator = str(note["validator"])
            usable = note["url"] == self.url and (validator or self.can_check)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, ""
        return (size, validator) if usable else (0, "")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def begin(self, validator: str) -> None:
        self.path.write_bytes(b"")
        self._note.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def check_url(url: str, *, loopback_ok: bool = True) -> None:
    """ModelError unless https, or http to this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and loopback_ok and _is_loopback(parts.hostname or "")):
        return
    raise ModelError(f"address {url} is not safe to fetch weights from; expected https")


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_url(newurl, loopback_ok=_is_loopback(urlsplit(req.full_url).hostname or ""))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def make_opener() -> urllib.request.OpenerDirector:
    """Follows redirects to https only and uses the environment's proxies."""
    return urllib.request.build_opener(_SafeRedirects)


def transfer(partial: Partial, subject: str, opener: urllib.request.OpenerDirector, report: Report) -> None:
    """Complete `partial`; ModelError where that fails, with what has arrived kept for the next call."""
    for attempt in range(ATTEMPTS):
        before = partial.resume_point()[0]
        try:
            _attempt(partial, subject, opener, report)
            return
        except _BrokenError as error:
            size = partial.size()
            if size <= before or attempt == ATTEMPTS - 1:
                advice = f"run the command again to go on from {size} bytes" if size else "check the connection"
                raise ModelError(
                    f"{subject} cannot be fetched from {partial.url} ({error}); {advice}, or `drba models import FILE`"
                ) from error


def _attempt(partial: Partial, subject: str, opener: urllib.request.OpenerDirector, report: Report) -> None:
    offset, validator = partial.resume_point()
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    request = urllib.request.Request(partial.url, headers=headers)
    try:
        response = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                if _full_size(error.headers) == offset:
                    return  # the whole file was here: the process ended before its digest was checked
                partial.remove()
                _attempt(partial, subject, opener, report)
                return
            advice = "try again later" if error.code in (408, 429) or error.code >= 500 else "it may have moved"
            raise ModelError(
                f"{subject} cannot be fetched: {partial.url} answered {error.code} {error.reason}; "
                f"{advice}, or `drba models import FILE`"
            ) from error
    except urllib.error.URLError as error:
        raise _BrokenError(error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(error or type(error).__name__) from error
    with response:
        _receive(response, partial, offset, subject, report)


def _receive(response: Any, partial: Partial, offset: int, subject: str, report: Report) -> None:
    try:
        if response.status == 206 and _range_start(response.headers) == offset:
            total = _full_size(response.headers)
        elif response.status == 206:  # another range than asked for
            partial.remove()
            raise _BrokenError(f"asked for bytes from {offset}, got {response.headers.get('Content-Range')}")
        else:  # a server without ranges, or the file is not the one of the beginning
            offset, length = 0, response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            partial.begin(_validator(response.headers))
        with partial.path.open("ab") as file:
            report(offset, total)
            while chunk := _read(response):
                offset += len(chunk)
                if offset > MAX_BYTES:
                    raise ModelError(f"{subject} from {partial.url} exceeds {MAX_BYTES} bytes; it was not installed")
                file.write(chunk)
                report(offset, total)
    except OSError as error:  # of the disk: those of the network are translated by _read
        raise ModelError(
            f"file {partial.path} cannot be written ({error.strerror}); check space and permissions"
        ) from error
    if total is not None and offset < total:
        raise _BrokenError(f"connection closed after {offset} of {total} bytes")


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(CHUNK_BYTES))
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(error or type(error).__name__) from error


def _validator(headers: Message) -> str:
    """What If-Range takes: a strong entity tag, else the time of the last change."""
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _range_start(headers: Message) -> int | None:
    match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _full_size(headers: Message) -> int | None:
    match = re.search(r"/(\d+)$", headers.get("Content-Range", ""))
    return int(match[1]) if match else None
