"""What the project is made of, from the packages installed here: what `make test` installs has to be installed.

    python tools/supply.py constraints    # constraints.txt: the versions that were tested together
    python tools/supply.py licences       # the tables of docs/licences.md
    python tools/supply.py sbom FILE      # a bill of materials in CycloneDX's JSON, for a release

The same environment gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from dependencies import PROJECT, ROOT, Dependency, dependencies
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

CONSTRAINTS, LICENCES = ROOT / "constraints.txt", ROOT / "docs" / "licences.md"
PINNED_EXTRAS = ("test", "bench")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
CONSTRAINTS_HEADER = """\
# Versions that were tested together, on Linux, of everything that `make demo` and `make test` install; written by
# `python tools/supply.py constraints`. `make` installs with `-c constraints.txt`. What PyTorch for CUDA needs besides, it
# pins itself.
"""
BEGIN, END = "<!-- written by tools/supply.py -->", "<!-- end -->"
SERIAL = uuid.UUID("6f1cb5de-6d4c-5a0e-9c39-0d6a1a5cf5f3")  # a namespace
#: Programs of the system that are run or loaded, not installed by pip.
PROGRAMS = {
    "mpv": "GPL-2.0-or-later",
    "libmpv": "GPL-2.0-or-later",
    "ffmpeg": "GPL-2.0-or-later",
}


def constraints() -> str:
    lines = [f"{found.name}=={found.version}{marker(found)}\n" for found in dependencies(PINNED_EXTRAS).values()]
    return CONSTRAINTS_HEADER + "".join(lines)


def marker(found: Dependency) -> str:
    """For which Pythons the version is, if not for all of ours: on others pip chooses one."""
    allowed = [python for python in PYTHONS if SpecifierSet(found.python).contains(f"{python}.99")]
    if not allowed:
        raise LookupError(f"{found.name} {found.version} is for no Python of ours: {found.python}")
    return "" if allowed[0] == PYTHONS[0] else f'; python_version >= "{allowed[0]}"'


def licence_tables() -> str:
    playing, everything = dependencies(), dependencies(PINNED_EXTRAS)
    rows = ["| installed for playing | licence | libraries inside |\n", "|---|---|---|\n"]
    rows += [f"| {f.name} {f.version} | {f.licence} | {', '.join(f.bundled)} |\n" for f in playing.values()]
    rows += ["\n| for tests only | licence |\n", "|---|---|\n"]
    rows += [f"| {f.name} {f.version} | {f.licence} |\n" for name, f in everything.items() if name not in playing]
    return "".join(rows)


def licences_page() -> str:
    """docs/licences.md with its tables written anew."""
    before, _, rest = LICENCES.read_text().partition(f"{BEGIN}\n")
    _, found, after = rest.partition(END)
    if not found:
        raise LookupError(f"{LICENCES} has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{licence_tables()}{END}{after}"


def bill_of_materials() -> dict[str, Any]:
    """What plays, without the extras. https://cyclonedx.org/docs/1.6/json"""
    found = dependencies()
    name, version = PROJECT["name"], PROJECT["version"]
    ours = f"pkg:pypi/{name}@{version}"
    direct = [need for need in found if any(need == canonical(text) for text in PROJECT["dependencies"])]
    components = [component(dependency) for dependency in found.values()]
    for program, licence in PROGRAMS.items():
        components.append(
            {
                "type": "application",
                "bom-ref": f"pkg:generic/{program}",
                "name": program,
                "description": "of the system, not installed by pip; some builds are under the LGPL",
                "purl": f"pkg:generic/{program}",
                "licenses": [{"expression": licence}],
            }
        )
    wanted = [*(purl(found[need]) for need in direct), *(f"pkg:generic/{program}" for program in PROGRAMS)]
    graph = [{"ref": ours, "dependsOn": wanted}]
    graph += [{"ref": purl(one), "dependsOn": [purl(found[need]) for need in one.needs]} for one in found.values()]
    bill: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": name,
                "version": version,
                "purl": ours,
                "licenses": [{"expression": PROJECT["license"]}],
            }
        },
        "components": components,
        "dependencies": graph,
    }
    return {"serialNumber": f"urn:uuid:{uuid.uuid5(SERIAL, json.dumps(bill))}", **bill}


def component(found: Dependency) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl(found),
        "name": found.name,
        "version": found.version,
        "purl": purl(found),
        "licenses": [{"expression": found.licence}],
        **({"properties": [{"name": "bundled", "value": name} for name in found.bundled]} if found.bundled else {}),
    }


def purl(found: Dependency) -> str:
    return f"pkg:pypi/{found.name}@{found.version}"


def canonical(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["constraints"]:
            CONSTRAINTS.write_text(constraints())
        case ["licences"]:
            LICENCES.write_text(licences_page())
        case ["sbom", path]:
            Path(path).write_text(json.dumps(bill_of_materials(), indent=1) + "\n")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LookupError as error:
        print(f"supply.py: {error}", file=sys.stderr)
        sys.exit(2)
