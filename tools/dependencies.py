"""What this project depends on, as it is installed here: versions, licences, and shared libraries inside of wheels."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: For packages that state their licence by a classifier or a word only.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "GPLv2+ or LGPLv2.1+": "GPL-2.0-or-later OR LGPL-2.1-or-later",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


@dataclass(frozen=True)
class Dependency:
    """`needs` are names of other dependencies; `bundled` the shared libraries that its wheel brings along."""

    name: str
    version: str
    licence: str
    python: str
    needs: tuple[str, ...]
    bundled: tuple[str, ...]


@cache
def dependencies(extras: tuple[str, ...] = ()) -> dict[str, Dependency]:
    """Everything that the project needs here with these extras, directly or not, by canonical name.

    LookupError where one is not installed.
    """
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        wanted += [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    found: dict[str, Dependency] = {}
    pending, seen = list(applying(wanted)), set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            raise LookupError(
                f"{requirement} is not installed here; pip install -c constraints.txt -e '.[test]'"
            ) from None
        needs = list(applying(map(Requirement, distribution.requires or ()), requirement.extras))
        pending += needs
        before = found[name].needs if name in found else ()
        found[name] = Dependency(
            name,
            distribution.version.partition("+")[0],
            licence_of(distribution.metadata),
            distribution.metadata.get("Requires-Python") or "",
            tuple(sorted({*before, *(canonicalize_name(need.name) for need in needs)})),
            tuple(sorted(shared_libraries(distribution))),
        )
    return dict(sorted(found.items()))


def applying(requirements: Iterable[Requirement], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Those whose markers hold here."""
    for requirement in requirements:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield requirement


def licence_of(stated: metadata.PackageMetadata) -> str:
    """An SPDX expression; empty where the package states nothing that is known to mean one."""
    texts = [stated.get("License-Expression"), stated.get("License")]
    texts += [
        line.rpartition(" :: ")[2] for line in stated.get_all("Classifier") or () if line.startswith("License ::")
    ]
    for text in filter(None, texts):
        try:
            return str(canonicalize_license_expression(SPDX.get(text, text)))
        except InvalidLicenseExpression:  # the licence's whole text, mostly
            continue
    return ""


def shared_libraries(distribution: metadata.Distribution) -> Iterator[str]:
    """Names of the libraries that auditwheel has put into a wheel, without version and hash."""
    for path in distribution.files or ():
        if path.parts[0].endswith(".libs"):
            yield re.sub(r"(-[0-9a-f]{8})*(-?\.so.*)", "", path.name)
