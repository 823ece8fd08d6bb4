"""What `drba doctor` looks at first: Python, its packages, the processor, folders, the server."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import drba
from drba.errors import InputError, ServerError

from .check import Check, State

DISTRIBUTION = "drba-player"
MIN_PYTHON = (3, 10)
LOW_SPACE_BYTES = 200 << 20  # a model, or an engine, is not larger


def check_python() -> Iterator[Check]:
    version = platform.python_version()
    found = f"{version}, {sys.executable}"
    data = {"version": version, "executable": sys.executable}
    if sys.version_info >= MIN_PYTHON:
        yield Check("python", "ok", found, data=data)
    else:
        yield Check("python", "problem", found, f"install Python {'.'.join(map(str, MIN_PYTHON))} or newer", data)


def check_packages() -> Iterator[Check]:
    """Installed versions against what the package's own metadata asks for."""
    from packaging.requirements import Requirement

    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        found = f"{DISTRIBUTION} {drba.__version__} runs from its folder and is not installed"
        yield Check("packages", "warn", found, "pip install -e . in that folder, so that versions can be checked")
        return
    versions, faults, wanted = {}, [], []
    for requirement in map(Requirement, declared):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            versions[requirement.name] = version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            faults.append(f"{requirement.name} is missing, expected {requirement.specifier or 'any version'}")
        else:
            if requirement.specifier.contains(version, prereleases=True):
                continue
            faults.append(f"{requirement.name} is {version}, expected {requirement.specifier}")
        wanted.append(f"'{requirement.name}{requirement.specifier}'")
    data = {DISTRIBUTION: drba.__version__, **versions}
    if faults:
        yield Check(
            "packages", "problem", "; ".join(faults), f"{sys.executable} -m pip install {' '.join(wanted)}", data
        )
    else:
        found = f"{DISTRIBUTION} {drba.__version__}; the {len(versions)} packages it needs have versions that fit"
        yield Check("packages", "ok", found, data=data)


def check_processor() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name = processor_name()
    found = f"{name}, {cores} core{'' if cores == 1 else 's'}, {platform.system()} {platform.machine()}"
    yield Check("cpu", "info", found, data={"name": name, "cores": cores, "system": platform.platform()})


def processor_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


# --- folders ----------------------------------------------------------------------------------------------------------


def _runtime() -> Path:
    from server.runtime import runtime_folder

    return runtime_folder()  # itself refuses what others could get at


def _logs() -> Path:
    from server.runtime import log_folder

    return log_folder()


def _data() -> Path:
    from drba import weights

    return weights.data_dir()


def _cache() -> Path:
    from drba.kept import cache_folder

    return cache_folder()


def _config() -> Path:
    from ..options import config_path

    return config_path().parent


#: How each is found, and whether models or engines go there.
FOLDERS: dict[str, tuple[Callable[[], Path], bool]] = {
    "runtime": (_runtime, False),
    "logs": (_logs, False),
    "data": (_data, True),
    "cache": (_cache, True),
    "config": (_config, False),
}


def check_folder_of(kind: str) -> Iterator[Check]:
    find, needs_space = FOLDERS[kind]
    yield check_folder(kind, find(), needs_space=needs_space)


def check_folder(name: str, folder: Path, *, needs_space: bool = True) -> Check:
    """Whether this user, and no other, can write there. A folder that does not exist yet is judged by where it would be
    made."""
    name = f"folder:{name}"
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    status = place.stat()
    free = shutil.disk_usage(place).free
    data = {"path": str(folder), "exists": place == folder, "mode": f"{stat.S_IMODE(status.st_mode):04o}", "free": free}
    found = f"{folder}, {free / 1e9:.1f} GB free" if place == folder else f"{folder}, made when it is needed"

    def verdict(state: State, what: str, remedy: str) -> Check:
        return Check(name, state, f"{folder}: {what}", remedy, data)

    if not place.is_dir():
        return verdict("problem", f"{place} is not a folder", f"move {place} away")
    try:
        tempfile.TemporaryFile(dir=place).close()  # what counts, on read-only disks too, and for root
    except OSError as error:
        mine = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
        owner = "" if mine else f", it belongs to user {status.st_uid}"
        remedy = f"chmod u+rwx {place}" if mine else f"sudo chown -R $USER {place}"
        if error.errno in (28, 30):  # ENOSPC, EROFS
            remedy = "make room on that disk" if error.errno == 28 else "choose a disk that can be written"
        return verdict("problem", f"{place} cannot be written ({error.strerror}{owner})", remedy)
    if place == folder and status.st_mode & stat.S_IWOTH:
        return verdict("warn", "every user of this machine may write there", f"chmod o-w {folder}")
    if needs_space and free < LOW_SPACE_BYTES:
        return verdict("warn", f"only {free / 1e6:.0f} MB are free", "make room on that disk")
    return Check(name, "ok", found, data=data)


def check_server() -> Iterator[Check]:
    from server.control import server_status

    report = server_status()
    if report is None:
        yield Check(
            "server", "info", "not running; it starts by itself when DRBA is turned on", data={"running": False}
        )
        return
    data = {"running": True, "version": report.version, "pid": report.pid, "sessions": len(report.sessions)}
    found = f"version {report.version}, process {report.pid}, {len(report.sessions)} in use"
    if report.version != drba.__version__:
        found += f"; this program is {drba.__version__}"
        yield Check("server", "warn", found, "drba stop; the next film starts the new one", data)
    else:
        yield Check("server", "ok", found, data=data)


def check_paired() -> Iterator[Check]:
    """The machines that render for this one: whether they answer. None paired is no check."""
    from server.control import server_status
    from server.keys import paired

    for name, server in paired().servers.items():
        subject, data = f"paired:{name}", {"endpoint": server.endpoint}
        try:
            report = server_status(remote=server)
        except ServerError as error:
            remedy = f"start drba-server --listen there; if it is no longer paired: drba pair --remove {name}"
            yield Check(subject, "warn", str(error), remedy, data)
            continue
        assert report is not None  # of another machine there is an answer or an error
        found = f"{server.endpoint} answers, version {report.version}"
        yield Check(subject, "ok", found, data={**data, "version": report.version})


def check_config() -> Iterator[Check]:
    from ..options import check_choices, config_path, defaults, load_config

    path = config_path()
    try:
        values = load_config(path)
        check_choices({**defaults(), **values})
    except InputError as error:
        yield Check("options", "problem", str(error), f"correct {path}", {"path": str(path)})
        return
    what = ", ".join(f"{name} = {value}" for name, value in values.items())
    found = f"{path}: {what}" if values else f"{path}: {'empty' if path.exists() else 'none'}, defaults count"
    yield Check("options", "ok" if values else "info", found, data={"path": str(path), "values": values})
