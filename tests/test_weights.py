"""Fetching and checking weights against a local server, and the `drba models` command."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from weights_server import Site, weights_server

from drba import downloads, integrity, transfer, weights
from drba.errors import ModelError
from drba.integrity import digest_of, locked, verify
from drba.models import Digest, ModelSpec, find

CONTENT = b"PK\x03\x04" + random.Random(1).randbytes(3_000_000)
OTHER = b"PK\x03\x04" + random.Random(2).randbytes(3_000_000)
PATH = "/HolyWu/vs-rife/releases/download/model/flownet_v4.22.pkl"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"


@pytest.fixture
def site() -> Iterator[Site]:
    with weights_server() as site:
        site.files[PATH] = CONTENT
        yield site


UNKNOWN = find("rife-4.22")  # a model whose public digest is not known


def known(content: bytes = CONTENT, algorithm: str = "sha256") -> ModelSpec:
    """The same model as if its digest were in the registry."""
    if algorithm == "sha256":
        digest = Digest("sha256", hashlib.sha256(content).hexdigest())
    else:
        digest = Digest("git-blob", hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())
    return replace(UNKNOWN, parts=(replace(UNKNOWN.parts[0], digest=digest),))


def fetch(spec: ModelSpec, site: Site, **options: object) -> downloads.Fetched:
    (part,) = downloads.fetch(spec, base_url=site.url, **options)  # type: ignore[arg-type]
    return part


def names(spec: ModelSpec = UNKNOWN) -> set[str]:
    return {path.name for path in weights.model_dir(spec).iterdir()} - {integrity.LOCK}


def refused(spec: ModelSpec, site: Site, **options: object) -> str:
    with pytest.raises(ModelError) as caught:
        fetch(spec, site, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("algorithm", ["sha256", "git-blob"])
def test_a_download_with_the_right_digest_is_installed(site: Site, algorithm: str) -> None:
    seen: list[tuple[int, int | None]] = []
    spec = known(algorithm=algorithm)
    part = fetch(spec, site, progress=lambda part, received, total: seen.append((received, total)))
    assert part.new and not part.first_seen
    assert part.path.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert names() == {"flownet.pkl"}
    assert weights.is_installed(spec)
    assert [status.state for status in verify(spec)] == ["ok"]


def test_an_installed_file_is_not_fetched_again_unless_forced(site: Site) -> None:
    fetch(known(), site)
    assert not fetch(known(), site).new
    assert len(site.requests) == 1
    assert fetch(known(), site, force=True).new
    assert len(site.requests) == 2


def test_a_damaged_installed_file_is_replaced(site: Site) -> None:
    path = fetch(known(), site).path
    path.write_bytes(CONTENT[:-1] + b"?")
    assert [status.state for status in verify(known())] == ["changed"]
    assert fetch(known(), site).new
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["", '"v1"'])
def test_a_broken_connection_is_gone_on_with_within_one_fetch(site: Site, etag: str) -> None:
    site.etag, site.break_after = etag, [1_000_000, 500_000]
    assert fetch(known(), site).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == ["", "bytes=1000000-", "bytes=1500000-"]


def test_an_interrupted_fetch_leaves_nothing_under_the_final_name_and_the_next_goes_on(site: Site) -> None:
    def interrupt(part: object, received: int, total: int | None) -> None:
        if received > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(known(), site, progress=interrupt)
    assert names() == {"flownet.pkl.partial", "flownet.pkl.partial.json"}
    assert not weights.is_installed(UNKNOWN)
    assert fetch(known(), site).path.read_bytes() == CONTENT
    assert int(site.requests[1][1].removeprefix("bytes=").removesuffix("-")) > 900_000
    assert names() == {"flownet.pkl"}


def _leave_partial(site: Site, spec: ModelSpec, size: int) -> None:
    """As a killed process does."""
    site.break_after = [size, 0]
    assert f"go on from {size} bytes" in refused(spec, site)
    site.requests.clear()


def test_a_server_without_ranges_is_started_over(site: Site) -> None:
    _leave_partial(site, known(), 1_000_000)
    site.ranges = False
    assert fetch(known(), site).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == ["bytes=1000000-"]


def test_the_beginning_of_another_version_is_not_gone_on_with(site: Site) -> None:
    site.etag = '"v1"'
    _leave_partial(site, known(OTHER), 1_000_000)
    site.etag, site.files[PATH] = '"v2"', OTHER
    assert fetch(known(OTHER), site).path.read_bytes() == OTHER


def test_without_digest_and_validator_a_beginning_is_not_trusted(site: Site) -> None:
    site.break_after = [1_000_000, 0]
    refused(UNKNOWN, site)
    site.requests.clear()
    assert fetch(UNKNOWN, site).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == [""]


def test_a_download_that_only_lacked_its_check_is_not_repeated(site: Site) -> None:
    _leave_partial(site, known(), len(CONTENT) - 1)
    partial = weights.model_dir(UNKNOWN) / "flownet.pkl.partial"
    partial.write_bytes(CONTENT)
    assert fetch(known(), site).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == [f"bytes={len(CONTENT)}-"]


def test_a_beginning_longer_than_the_file_is_started_over(site: Site) -> None:
    _leave_partial(site, known(), 1_000_000)
    (weights.model_dir(UNKNOWN) / "flownet.pkl.partial").write_bytes(CONTENT + b"more")
    assert fetch(known(), site).path.read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_and_the_partial_removed(site: Site) -> None:
    message = refused(known(OTHER), site)
    assert str(known(OTHER).parts[0].digest) in message and str(known(CONTENT).parts[0].digest) in message
    assert names() == set()


def test_a_wrong_digest_does_not_touch_what_is_installed(site: Site) -> None:
    path = fetch(known(), site).path
    site.files[PATH] = OTHER
    refused(known(), site, force=True)
    assert path.read_bytes() == CONTENT


def test_the_first_digest_is_recorded_and_a_later_different_one_refused(site: Site) -> None:
    part = fetch(UNKNOWN, site)
    assert part.first_seen and part.digest == digest_of(part.path, "sha256")
    records = json.loads((weights.model_dir(UNKNOWN) / "digests.json").read_text())
    assert records["flownet"]["public"] == str(part.digest)
    assert [status.state for status in verify(UNKNOWN)] == ["ok"]

    site.files[PATH] = OTHER
    message = refused(UNKNOWN, site, force=True)
    assert "first seen as" in message and "digests.json" in message
    assert part.path.read_bytes() == CONTENT
    part.path.unlink()
    refused(UNKNOWN, site)
    assert names() == {"digests.json"}


def test_a_file_without_any_digest_is_recorded_by_verify() -> None:
    path = weights.model_dir(UNKNOWN) / "flownet.pkl"
    assert [status.state for status in verify(UNKNOWN)] == ["missing"]
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert [status.state for status in verify(UNKNOWN)] == ["recorded"]
    assert [status.state for status in verify(UNKNOWN)] == ["ok"]
    path.write_bytes(OTHER)
    assert [status.state for status in verify(UNKNOWN)] == ["changed"]


def test_an_error_page_is_not_recorded_as_a_checkpoint(site: Site) -> None:
    site.files[PATH] = b"<html>please log in</html>"
    assert "is no checkpoint" in refused(UNKNOWN, site)
    assert names() == set()


def test_errors_of_the_server_and_the_line_say_what_to_do(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    del site.files[PATH]
    message = refused(known(), site)
    assert "404" in message and "drba models import FILE" in message
    with weights_server() as gone:
        pass
    message = refused(known(), gone)
    assert "check the connection" in message
    assert names() == set()


@pytest.mark.parametrize("url", ["http://example.org", "ftp://127.0.0.1", "file:///etc"])
def test_only_https_is_fetched(url: str) -> None:
    with pytest.raises(ModelError, match="expected https"):
        downloads.fetch(UNKNOWN, base_url=url)


def test_a_redirect_is_followed_but_not_away_from_https(site: Site) -> None:
    site.files["/moved"] = site.files.pop(PATH)
    site.redirects[PATH] = f"{site.url}/moved"
    assert fetch(known(), site).new
    site.redirects[PATH] = "http://example.org/moved"
    assert "expected https" in refused(known(), site, force=True)
    with pytest.raises(ModelError, match="expected https"):
        transfer.check_url(site.url, loopback_ok=False)


def test_a_server_that_never_ends_does_not_fill_the_disk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 1_000_000)
    assert "exceeds 1000000 bytes" in refused(known(), site)


def test_two_commands_do_not_write_one_model_at_once(site: Site) -> None:
    with locked(UNKNOWN):
        assert "in use by another drba command" in refused(UNKNOWN, site)


def test_a_damaged_record_is_named(site: Site) -> None:
    integrity.write_atomically(fetch(UNKNOWN, site).path.with_name("digests.json"), b'{"flownet": {"public": 3}}')
    assert "digests.json cannot be read" in refused(UNKNOWN, site, force=True)
