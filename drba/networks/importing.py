"""Installing checkpoints that the user has: which model they are of, and storing them as safetensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors.torch import save

from .. import weights
from ..errors import ModelError
from ..integrity import digest_of, locked, part_status, public_digest, record, write_atomically
from ..models import MODELS, Digest, ModelSpec, Part, find
from .build import empty_parts
from .checkpoint import SUFFIXES, StateDict, expected_shapes, read_checkpoint

Shapes = dict[str, tuple[int, ...]]

#: What told the model, surest first; `name` is the file's or its folder's.
Evidence = Literal["model", "digest", "folder", "shapes", "name"]


@dataclass(frozen=True)
class Target:
    """A part that a file may be."""

    spec: ModelSpec
    part: Part

    def __str__(self) -> str:
        return self.spec.name if len(self.spec.parts) == 1 else f"{self.part.name} of {self.spec.name}"


@dataclass(frozen=True)
class Imported:
    """`public` says that the source is the public file, byte for byte; `new` is False where the very same tensors were
    installed already."""

    source: Path
    target: Target
    path: Path
    evidence: Evidence
    public: bool
    new: bool


def import_file(path: Path, model: str | None = None, *, force: bool = False) -> tuple[Imported, ...]:
    """Install a checkpoint, or every checkpoint of a folder, as safetensors.

    One file is stored for several models where its digest says that all of them have it. `model` tells what shapes leave
    open. ModelError, and nothing is installed, where a file is unreadable, of no known model, ambiguous, or would replace
    an intact installed file with other tensors without `force`.
    """
    if model and not find(model).needs_weights:
        raise ModelError(f"model {model} needs no weights; expected another --model")
    files, shapes = _files(path), _shapes([find(model)] if model else MODELS)
    fitting = {file: _fitting(file, shapes, model) for file in files}
    whole = _whole_model(fitting.values()) if path.is_dir() else None
    plan: list[tuple[Path, Target, Evidence]] = []
    for file, candidates in fitting.items():
        chosen, evidence = _choose(file, candidates, whole, named=model is not None)
        for target in chosen:
            for other, taken, _ in plan:
                if taken == target:
                    raise ModelError(f"{other} and {file} are both {target}; import the one that you want")
            plan.append((file, target, evidence))
    return _store(plan, force)


def _shapes(specs: Iterable[ModelSpec]) -> dict[Target, Shapes]:
    shapes: dict[Target, Shapes] = {}
    for spec in specs:
        networks = empty_parts(spec)
        shapes.update({Target(spec, part): expected_shapes(networks[part.name]) for part in spec.parts})
    return shapes


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise ModelError(f"folder {path} has no checkpoint; expected files with {', '.join(SUFFIXES)}")
    return files


def _fitting(file: Path, shapes: dict[Target, Shapes], model: str | None) -> list[Target]:
    found = {name: tuple(tensor.shape) for name, tensor in read_checkpoint(file).items()}
    candidates = [target for target, expected in shapes.items() if expected == found]
    if not candidates:
        expected = f"weights of {find(model).name}" if model else "weights of any model that `drba models list` shows"
        raise ModelError(f"weights file {file} with {len(found)} tensors does not fit; expected {expected}")
    return candidates


def _whole_model(fitting: Iterable[Sequence[Target]]) -> ModelSpec | None:
    """The one model of several parts that a folder holds completely."""
    there = {target for candidates in fitting for target in candidates}
    specs = {target.spec.name: target.spec for target in there if len(target.spec.parts) > 1}
    whole = [spec for spec in specs.values() if all(Target(spec, part) in there for part in spec.parts)]
    return whole[0] if len(whole) == 1 else None


def _choose(
    file: Path, candidates: list[Target], whole: ModelSpec | None, *, named: bool
) -> tuple[list[Target], Evidence]:
    if named:
        return candidates, "model"
    proven = [target for target in candidates if len(candidates) > 1 and _is_public(file, target)]
    in_whole = [target for target in proven or candidates if target.spec == whole]
    if in_whole:
        return in_whole, "digest" if proven else "folder"
    if len(candidates) == 1:
        return candidates, "shapes"
    if len(proven) == 1:
        return proven, "digest"
    left = _by_name(file, proven or candidates)
    if proven:
        return left, "digest"  # the same file for several models: good for each
    if len(left) == 1:
        return left, "name"
    listed = ", ".join(map(str, left))
    raise ModelError(f"weights file {file} fits {listed} alike; say which with `--model NAME`")


def _by_name(file: Path, candidates: list[Target]) -> list[Target]:
    """Those that the file's name means, else its folder's; a whole model before a part of another."""
    stem, folder = file.stem.lower(), file.resolve().parent.name.lower()
    for narrowed in (
        _named(stem, candidates),
        [target for target in candidates if stem == target.part.name and len({t.part for t in candidates}) > 1],
        _named(folder, candidates),
        [target for target in candidates if len(target.spec.parts) == 1],
    ):
        if narrowed:
            candidates = narrowed
        if len(candidates) == 1:
            break
    return candidates


def _named(text: str, candidates: list[Target]) -> list[Target]:
    """The candidates whose variant stands in a text, the longest one's only: gmfss_union is not gmfss."""
    lengths: dict[Target, int] = {}
    for target in candidates:
        pattern = r"[._-]?".join(map(re.escape, re.split(r"[._-]", target.spec.variant)))
        match = re.search(rf"(?<!\d){pattern}(?!\d)", text)
        if match:
            lengths[target] = len(match[0])
    return [target for target, length in lengths.items() if length == max(lengths.values())]


def _is_public(file: Path, target: Target) -> bool:
    digest = public_digest(target.spec, target.part)
    return digest is not None and digest_of(file, digest.algorithm) == digest


def _store(plan: list[tuple[Path, Target, Evidence]], force: bool) -> tuple[Imported, ...]:
    """In two passes, so that a refusal comes before the first change."""
    if not force:
        for file, target, _ in plan:
            _refuse_other_tensors(file, target)
    return tuple(_store_one(file, target, evidence) for file, target, evidence in plan)


def _refuse_other_tensors(file: Path, target: Target) -> None:
    status = part_status(target.spec, target.part, note=False)
    if status.path is None or status.state == "changed" or _same(read_checkpoint(status.path), read_checkpoint(file)):
        return
    raise ModelError(f"{target} is installed already and {file} differs from it; add --force to replace it")


def _store_one(file: Path, target: Target, evidence: Evidence) -> Imported:
    state = read_checkpoint(file)
    # Clones: checkpoints may hold views of one storage, which safetensors refuses.
    content = save({name: tensor.contiguous().clone() for name, tensor in state.items()})
    public = _is_public(file, target)
    with locked(target.spec):
        status = part_status(target.spec, target.part, note=False)
        path = weights.model_dir(target.spec) / f"{target.part.name}.safetensors"
        if status.path is not None and status.state != "changed" and _same(read_checkpoint(status.path), state):
            return Imported(file, target, status.path, evidence, public, new=False)
        write_atomically(path, content)
        stored: Digest = digest_of(path, "sha256")
        record(target.spec, target.part, stored=str(stored), file=path.name, source=str(digest_of(file, "sha256")))
    return Imported(file, target, path, evidence, public, new=True)


def _same(one: StateDict, other: StateDict) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].equal(other[name]) for name in one
    )
