"""The registry of interpolation models: what exists, under which names, with which capabilities, and where weights come
from.

Pure data, without torch: listing models is instant. `load` imports what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import ModelError

if TYPE_CHECKING:
    from .networks.interpolator import Interpolator

Family = Literal["flow", "refine", "rife", "gmfss", "gmfss-union", "distil"]
Algorithm = Literal["sha256", "git-blob"]

VS_RIFE = "https://github.com/HolyWu/vs-rife/releases/download/model"
DRBA = "https://github.com/routineLife1/DRBA/raw/main/weights"
DISTIL = "https://github.com/routineLife1/VS-DistilDRBA/releases/download/weights"


@dataclass(frozen=True)
class Digest:
    """`git-blob` is the id that git gives a file: sha1 of "blob ", its length in decimal, a zero byte and its
    content."""

    algorithm: Algorithm
    value: str  # lower-case hexadecimal

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


@dataclass(frozen=True)
class Part:
    """One checkpoint file of a model. `name` is the file name without suffix that DRBA uses; a digest of None means
    that the public file's is not known here and the first one downloaded is recorded. That of a shipped model has
    neither: see `drba.weights`."""

    name: str
    url: str = ""
    digest: Digest | None = None


@dataclass(frozen=True)
class ModelSpec:
    """A model and what it can do.

    `variant` names the version within its family; `size_multiple` is what both sides are padded to at flow scale 1;
    `min_size` the smallest height and width it takes; `uses_drm` whether distance ratio maps steer it (DistilDRBA
    learned them, so map form and intervals make no difference); `supports_half` whether float16 and bfloat16 are good
    enough; `fast_differs` whether mode "fast" approximates (elsewhere it computes the same); `splits` whether it runs as
    parts of fixed shapes (`networks.parts`), which is what CUDA graphs and TensorRT need; `shipped` whether its weights
    (of one part) come in the package instead of by download.
    """

    name: str
    family: Family
    variant: str
    parts: tuple[Part, ...]
    aliases: tuple[str, ...] = ()
    size_multiple: int = 64
    min_size: tuple[int, int] = (1, 1)
    uses_drm: bool = True
    supports_half: bool = True
    fast_differs: bool = False
    splits: bool = False
    shipped: bool = False
    description: str = field(default="", compare=False)

    @property
    def needs_weights(self) -> bool:
        return bool(self.parts)


def _vs_rife(version: str, multiple: int, sha256: str | None) -> ModelSpec:
    digest = Digest("sha256", sha256) if sha256 else None
    part = Part("flownet", f"{VS_RIFE}/flownet_v{version}.pkl", digest)
    return ModelSpec(
        f"rife-{version}",
        "rife",
        version,
        (part,),
        aliases=(f"rife{version}", f"rife_{version}"),
        size_multiple=multiple,
        fast_differs=True,
        splits=True,
        description=f"RIFE {version} with distance ratio maps",
    )


def _drba_parts(folder: str, blobs: Mapping[str, str]) -> tuple[Part, ...]:
    return tuple(Part(name, f"{DRBA}/{folder}/{name}.pkl", Digest("git-blob", blob)) for name, blob in blobs.items())


_GMFLOW_BLOB = "c25668b741066b5f6b5161d309f72e36a125c02c"
_RIFE_HEAVY_BLOB = "b98d05d678b97e0a3b64aba8eeba5c1d4d1b04dc"

#: Every model, in the order in which lists show them.
MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        "flow",
        "flow",
        "dis",
        (),
        size_multiple=1,
        description="Optical flow and distance ratio maps only: no download, runs on any machine",
    ),
    ModelSpec(
        "drba-small",
        "refine",
        "drba-small",
        (Part("flownet"),),
        size_multiple=32,
        splits=True,
        shipped=True,
        description="A small network of this project's own, trained on drawn animation: no download",
    ),
    ModelSpec(
        "rife-4.26.heavy",
        "rife",
        "4.26.heavy",
        _drba_parts("train_log_rife_426_heavy", {"flownet": _RIFE_HEAVY_BLOB}),
        aliases=("rife", "rife4.26.heavy", "rife_4.26.heavy", "rife_426_heavy"),
        fast_differs=True,
        splits=True,
        description="DRBA's own RIFE, for playing in real time",
    ),
    ModelSpec(
        "gmfss",
        "gmfss",
        "gmfss",
        _drba_parts(
            "train_log_gmfss",
            {
                "flownet": _GMFLOW_BLOB,
                "metric": "3047f74aa740d1697d80a3c4019d62cfa024b189",
                "feat": "3ba1acf474206a16999367bb6849fcb4f3f05f44",
                "fusionnet": "2c250c6547cf4fe9cf0859a1d85be3f70854072d",
            },
        ),
        description="GMFSS with distance ratio maps: global matching and softmax splatting",
    ),
    ModelSpec(
        "gmfss-union",
        "gmfss-union",
        "gmfss-union",
        _drba_parts(
            "train_log_gmfss_union",
            {
                "flownet": _GMFLOW_BLOB,
                "metric": "8de672f3ec8e1c236a8cfc207ba58df2768cf9fb",
                "feat": "5d7b84a394b76bef646ae2aaaaba4a7d63ceb445",
                "fusionnet": "6e9d468db14e76c47da563ebd1de75e9bbcc326c",
                "rife": _RIFE_HEAVY_BLOB,
            },
        ),
        aliases=("gmfss_union",),
        size_multiple=128,
        description="GMFSS with RIFE 4.26.heavy inside: the highest quality, for rendering",
    ),
    ModelSpec(
        "distil-drba-v1",
        "distil",
        "v1",
        (Part("v1", f"{DISTIL}/v1.pkl", None),),
        aliases=("distil-drba", "distil_drba_v1"),
        uses_drm=False,
        splits=True,
        description="DRBA distilled into one network for real-time players",
    ),
    ModelSpec(
        "distil-drba-v2-lite",
        "distil",
        "v2-lite",
        (Part("v2_lite", f"{DISTIL}/v2_lite.pkl", None),),
        aliases=("distil_drba_v2_lite",),
        uses_drm=False,
        splits=True,
        description="A lighter distilled DRBA",
    ),
    _vs_rife("4.6", 32, "008646e761f0e67cb77f0c6c44cfe3c3e5a05d9d9465311b9681ca650ce030db"),
    _vs_rife("4.15", 32, "bf969affb3f6e9a09eea8c1da6c51bb22d6da45e92cafb9273689d05e2360dd2"),
    _vs_rife("4.15.lite", 32, "54fe3fb51efb880f64ffe2048a88220ad2b0b3d03f7cb800742e90821dcfb24f"),
    _vs_rife("4.17", 32, "b1ee3186270312a38316e4d53c77b31a60062cfa5636e13d6f0a1dd89bb7b128"),
    _vs_rife("4.17.lite", 32, "9303f59001bc40e801273828cc0da84b8f7696a9485cd7c45e7796f20ed2f086"),
    _vs_rife("4.18", 32, "955fc8b552417ae4808999f5d671d024438e904c0bebf766ae6fb61806ce021c"),
    _vs_rife("4.22", 32, None),
    _vs_rife("4.22.lite", 32, None),
    _vs_rife("4.25", 64, None),
    _vs_rife("4.25.lite", 128, None),
    _vs_rife("4.25.heavy", 64, None),
    _vs_rife("4.26", 64, "45c7f74156704769dc9f85cfcaf8552e1e926f9399dcfa3a553dee88fac6f53f"),
)
_BY_NAME = {name: spec for spec in MODELS for name in (spec.name, *spec.aliases)}


def models() -> tuple[ModelSpec, ...]:
    """Every model that exists, installed or not, in display order."""
    return MODELS


def find(name: str) -> ModelSpec:
    """The model of this name or alias; ModelError that lists the names where there is none."""
    try:
        return _BY_NAME[name.strip().lower()]
    except KeyError:
        known = ", ".join(spec.name for spec in MODELS)
        raise ModelError(f"model {name!r} does not exist; expected one of {known}") from None


def load(
    model: str,
    *,
    weights: str | Path | Mapping[str, Mapping[str, Any]] | None = None,
    device: str | Any = "auto",
    dtype: str | Any | None = None,
    scale: float = 1.0,
    mode: str = "reference",
) -> Interpolator:
    """Load a model for tensors; see `networks.interpolator.Interpolator` for what comes back.

    `weights` is a checkpoint file (.pkl, .pth, .safetensors), or a folder with one file a part under DRBA's names
    (flownet, metric, feat, fusionnet, rife), or {part: state dict}; None takes what is installed (see `drba.weights`).
    `device` is a torch device or "auto" (CUDA where there is one, else the CPU); `dtype` a torch dtype or its name,
    None for float16 on CUDA in fast mode and float32 elsewhere. `scale` (0.25..4) is the flow scale: larger is finer
    and slower. `mode` is "reference" (as DRBA computes) or "fast". ModelError where anything of this does not fit.
    """
    spec = find(model)
    from .networks.build import build  # imports torch

    return build(spec, weights=weights, device=device, dtype=dtype, scale=scale, mode=mode)
