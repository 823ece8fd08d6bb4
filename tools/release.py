"""Build a release and check it: sdist, wheel, bill of materials, checksums.

    python tools/release.py FOLDER             # everything a release needs, in an empty folder
    python tools/release.py --tag v1.2.3 FOLDER    # the same, refused unless the changelog has that version with its date

The wheel is made from the sdist, so both are whole. The same commit gives the same wheel, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from dependencies import PROJECT, ROOT

#: All that may be in a wheel, as regular expressions of whole paths; {} is NAME-VERSION.
ALLOWED = (
    r"(drba|drba/networks|engines|server|player|player/(bench|demo|render|setup))/\w+\.py",
    r"drba/networks/kernels\.cu",
    r"drba/networks/shipped/([\w.-]+\.safetensors|SHA256SUMS)",
    r"{}\.data/data/share/drba-player/drba\.lua",
    r"{}\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|top_level\.txt|licenses/LICENSE)",
)
#: What has to be in it whatever else is.
NEEDED = (
    "drba/networks/kernels.cu",
    "{}.data/data/share/drba-player/drba.lua",
    "{}.dist-info/licenses/LICENSE",
    "{}.dist-info/entry_points.txt",
)
SHIPPED_MAX_BYTES = 4 << 20
NAME = f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}"


def build(folder: Path) -> tuple[Path, Path]:
    """(sdist, wheel) in `folder`, by the build backend of pyproject.toml as it is installed here."""
    with TemporaryDirectory(prefix="drba-release-") as scratch:
        # of what git knows: no cache, no egg-info and no file that lies about comes in
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        source = Path(scratch, "source")
        for name in filter(None, tracked.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
                (source / name).chmod(0o755 if os.access(ROOT / name, os.X_OK) else 0o644)  # whatever the umask is
        sdist = folder / _backend("build_sdist", source, folder)
        shutil.unpack_archive(sdist, scratch)
        return sdist, folder / _backend("build_wheel", Path(scratch, NAME), folder)


def _backend(hook: str, source: Path, folder: Path) -> str:
    code = f"import sys; from setuptools import build_meta; print('\\n' + build_meta.{hook}(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    environment = {"SOURCE_DATE_EPOCH": _last_commit_time(), **os.environ}
    done = subprocess.run(command, cwd=source, env=environment, umask=0o022, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"release.py: {hook} failed\n{done.stdout}{done.stderr}")
    return done.stdout.splitlines()[-1]


def faults(wheel: Path) -> list[str]:
    """What is wrong with a wheel's contents, a line each."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    allowed = re.compile("|".join(pattern.format(re.escape(NAME)) for pattern in ALLOWED))
    found = [f"{name} is not on the list of what may be in it" for name in sizes if not allowed.fullmatch(name)]
    found += [f"{name} is missing" for name in (need.format(NAME) for need in NEEDED) if name not in sizes]
    modules = {
        path.relative_to(ROOT).as_posix()
        for top in ("drba", "engines", "server", "player")
        for path in (ROOT / top).rglob("*.py")
    }
    found += [f"{name} is missing" for name in sorted(modules - sizes.keys())]
    for name, size in sizes.items():
        if name.endswith(".safetensors") and size > SHIPPED_MAX_BYTES:
            found.append(f"{name} has {size} bytes, expected {SHIPPED_MAX_BYTES} or less")
    if f"Version: {PROJECT['version']}\n" not in metadata:
        found.append(f"METADATA has not the version {PROJECT['version']}")
    return found


def changelog_fault(changelog: str, version: str, *, released: bool) -> str:
    """What is wrong with the newest section of a changelog; empty where nothing is."""
    newest = re.search(r"^## (\S+) \((\S+)\)$", changelog, re.MULTILINE)
    if newest is None or newest[1] != version:
        return f"the changelog begins with {newest[1] if newest else 'no version'}, expected {version}"
    if newest[2] != "unreleased" and not re.fullmatch(r"\d{4}-\d\d-\d\d", newest[2]):
        return f"{version} is ({newest[2]}) in the changelog, expected (unreleased) or a date"
    if released and newest[2] == "unreleased":
        return f"{version} is unreleased in the changelog; expected the day of the release"
    return ""


def notes(changelog: str) -> str:
    """The newest section, without its heading."""
    return re.split(r"^## .*$", changelog, flags=re.MULTILINE)[1].strip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="build a release and check it", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is not there; empty otherwise")
    parser.add_argument("--tag", metavar="TAG", help="what the release is called: v and the version")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    wrong = [f"{folder} is not empty, expected a new folder"] if any(folder.iterdir()) else []
    if arguments.tag not in (None, f"v{PROJECT['version']}"):
        wrong.append(f"the tag is {arguments.tag}, expected v{PROJECT['version']} (pyproject.toml)")
    changelog = (ROOT / "CHANGELOG.md").read_text()
    wrong += filter(None, [changelog_fault(changelog, PROJECT["version"], released=arguments.tag is not None)])
    if not wrong:
        sdist, wheel = build(folder)
        wrong = faults(wheel)
    if wrong:
        raise SystemExit("\n".join(f"release.py: {line}" for line in wrong))
    from supply import bill_of_materials

    bill = folder / f"{NAME}.cdx.json"
    bill.write_text(json.dumps(bill_of_materials(), indent=1) + "\n")
    files = (sdist, wheel, bill)
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums)
    (folder / "notes.md").write_text(notes(changelog))
    print(sums, end="")


def _last_commit_time() -> str:
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()
