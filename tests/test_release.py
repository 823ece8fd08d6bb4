"""What is released: the wheel's contents, an installation into an empty environment that plays, pins, licences, versions."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import drba
from drba.networks.shipping import MAX_BYTES
from server.client import stop_server

ROOT = Path(__file__).resolve().parent.parent
REAL_WEIGHTS = sorted((ROOT / "drba" / "networks" / "shipped").glob("*.safetensors"))
PLAY_S = 3
#: The film begins when DRBA is on, however long that takes here.
WAIT_FOR_DRBA = """
mp.observe_property("vid", "number", function(_, track) if track == 2 then mp.set_property_bool("pause", false) end end)
"""


def tool(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "tools"))


release, supply, dependencies = tool("release"), tool("supply"), tool("dependencies")


# --- the wheel --------------------------------------------------------------------------------------------------------

in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a release is made of what git knows")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(sdist, the wheel that was made of it)."""
    return release.build(tmp_path_factory.mktemp("dist"))


@in_git
def test_the_wheel_has_what_it_needs_and_nothing_else(built: tuple[Path, Path]) -> None:
    assert not release.faults(built[1])
    with zipfile.ZipFile(built[1]) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    for path in REAL_WEIGHTS:
        assert sizes[path.relative_to(ROOT).as_posix()] == path.stat().st_size <= MAX_BYTES
        assert "drba/networks/shipped/SHA256SUMS" in sizes


@in_git
def test_the_same_commit_gives_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        _, again = release.build(tmp_path)
    finally:
        os.umask(before)
    assert again.read_bytes() == built[1].read_bytes()


@in_git
def test_what_does_not_belong_into_the_wheel_is_named(built: tuple[Path, Path], tmp_path: Path) -> None:
    spoiled = tmp_path / built[1].name
    with zipfile.ZipFile(built[1]) as archive, zipfile.ZipFile(spoiled, "w") as copy:
        for entry in archive.infolist():
            if entry.filename not in ("drba/networks/kernels.cu", "player/play.py"):
                copy.writestr(entry, archive.read(entry))
        copy.writestr("tests/test_release.py", "")
        copy.writestr("drba/networks/shipped/large.safetensors", bytes(MAX_BYTES + 1))
    assert release.faults(spoiled) == [
        "tests/test_release.py is not on the list of what may be in it",
        "drba/networks/kernels.cu is missing",
        "player/play.py is missing",
        f"drba/networks/shipped/large.safetensors has {MAX_BYTES + 1} bytes, expected {MAX_BYTES} or less",
    ]


# --- an empty environment ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has nothing but our wheel.

    The packages that it depends on are those of the running environment, by a path: PyTorch is too large to be installed
    for this. Our own source is not on it, however it is installed here, since no .pth file of that folder is read.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    programs = folder / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, *options, str(built[1])], check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([programs / "python", "-c", ask], stdout=subprocess.PIPE, text=True).stdout.strip())
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return programs


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A viewer's: folders of their own, and nothing of ours in it."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DRBA_", "PYTHON"))}
    yield {**ours, "DRBA_RUNTIME_DIR": str(runtime), "DRBA_DATA_DIR": str(tmp_path / "data"), "LC_ALL": "C.UTF-8"}
    monkeypatch.setenv("DRBA_RUNTIME_DIR", str(runtime))
    stop_server()


def says(environment: dict[str, str], *command: str | Path) -> str:
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@in_git
def test_the_wheel_plays_the_demo_in_an_empty_environment(
    installed: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    where = says(
        environment,
        installed / "python",
        "-c",
        "import drba, player.paths; print(drba.__file__, player.paths.lua_script())",
    )
    assert all(path.startswith(str(installed.parent)) for path in where.split()), where
    report, wait = tmp_path / "report.json", tmp_path / "wait.lua"
    wait.write_text(WAIT_FOR_DRBA)
    mpv = ("--vo=null", "--ao=null", "--pause", f"--script={wait}", f"--end={PLAY_S}")
    says(environment, installed / "drba-player", "--demo", "--report", report, "--", *mpv)
    shown = json.loads(report.read_text())
    assert shown["output_frames"] > 10 * PLAY_S, shown
    assert shown["interpolated_frames"] + shown["late_frames"] + shown["reduced_frames"], shown


@in_git
def test_every_program_of_the_wheel_starts(installed: Path, environment: dict[str, str]) -> None:
    pipe = subprocess.PIPE
    started = {
        program: subprocess.Popen([installed / program, "--help"], cwd="/", env=environment, stdout=pipe, text=True)
        for program in dependencies.PROJECT["scripts"]
    }
    for program, process in started.items():
        said = process.communicate(timeout=100)[0]
        assert process.returncode == 0 and said.startswith(f"usage: {program} "), said


@in_git
@pytest.mark.skipif(not REAL_WEIGHTS, reason="this build has no network in the package yet")
def test_the_wheel_has_its_network_with_it(installed: Path, environment: dict[str, str]) -> None:
    assert "drba-small: flownet ok" in says(environment, installed / "drba", "models", "verify")


# --- what it is made of -----------------------------------------------------------------------------------------------

PINS = {
    requirement.name: requirement
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}
AS_PINNED = all(
    str(PINS[name].specifier) == f"=={found.version}"
    for name, found in dependencies.dependencies(supply.PINNED_EXTRAS).items()
    if name in PINS
)
as_pinned = pytest.mark.skipif(not AS_PINNED, reason="other versions are installed than constraints.txt says")


def test_everything_that_is_installed_is_pinned() -> None:
    needed = dependencies.dependencies(supply.PINNED_EXTRAS).keys()
    assert needed <= PINS.keys(), "python tools/supply.py constraints"
    assert PINS.keys() <= needed, "pinned and not needed; python tools/supply.py constraints"
    assert all(str(pin.specifier).startswith("==") for pin in PINS.values())
    assert str(PINS["torch"].specifier) == "==2.13.0"


@as_pinned
def test_constraints_and_licences_are_as_the_tool_writes_them() -> None:
    assert (ROOT / "constraints.txt").read_text() == supply.constraints(), "python tools/supply.py constraints"
    assert supply.LICENCES.read_text() == supply.licences_page(), "python tools/supply.py licences"


def test_every_dependency_states_a_licence() -> None:
    unknown = [name for name, found in dependencies.dependencies(supply.PINNED_EXTRAS).items() if not found.licence]
    assert not unknown, "a line in tools/dependencies.SPDX says what its words mean"


def test_the_bill_of_materials_names_every_dependency_and_what_needs_it() -> None:
    bill = supply.bill_of_materials()
    found = dependencies.dependencies()
    names = {component["name"] for component in bill["components"]}
    assert names == {*found, *supply.PROGRAMS} and "torch" in names and "pytest" not in names
    reached, edges = set(), {edge["ref"]: edge["dependsOn"] for edge in bill["dependencies"]}
    pending = [bill["metadata"]["component"]["bom-ref"]]
    while pending:
        for ref in edges.get(pending.pop(), ()):
            if ref not in reached:
                reached.add(ref)
                pending.append(ref)
    assert reached == {component["bom-ref"] for component in bill["components"]}
    assert bill == supply.bill_of_materials(), "the same each time"


# --- versions ---------------------------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere() -> None:
    assert dependencies.PROJECT["version"] == drba.__version__
    assert not release.changelog_fault((ROOT / "CHANGELOG.md").read_text(), drba.__version__, released=False)


@pytest.mark.parametrize(
    ("heading", "released", "fault"),
    [
        ("## 1.2.0 (2026-11-30)", True, ""),
        ("## 1.2.0 (unreleased)", False, ""),
        ("## 1.2.0 (unreleased)", True, "1.2.0 is unreleased in the changelog; expected the day of the release"),
        ("## 1.1.0 (2026-11-30)", True, "the changelog begins with 1.1.0, expected 1.2.0"),
        ("## 1.2.0 (soon)", False, "1.2.0 is (soon) in the changelog, expected (unreleased) or a date"),
        ("nothing", False, "the changelog begins with no version, expected 1.2.0"),
    ],
)
def test_a_release_needs_its_section_in_the_changelog(heading: str, released: bool, fault: str) -> None:
    changelog = f"# Changelog\n\n{heading}\n- more\n"
    assert release.changelog_fault(changelog, "1.2.0", released=released) == fault


def test_the_notes_of_a_release_are_its_section() -> None:
    changelog = "# Changelog\n\n## 1.2.0 (2026-11-30)\n\n### Playing\n- more\n\n## 0.9.0 (2026-01-01)\n- first\n"
    assert release.notes(changelog) == "### Playing\n- more\n"


def test_the_workflow_uses_nothing_that_is_not_pinned() -> None:
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert "uses:" not in workflow and "make release" in workflow
