"""Every TensorRT name in engines/tensorrt.py exists in the published bindings of the oldest and of the newest version.

tests/data/tensorrt_names.json was read from the imported bindings themselves (tools/tensorrt_names.py). That the calls do what
they should is not shown by this: no TensorRT library runs where the tests do.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES: dict[str, dict[str, dict[str, str]]] = json.loads((ROOT / "tests/data/tensorrt_names.json").read_text())
SOURCE = ast.parse((ROOT / "engines" / "tensorrt.py").read_text())

#: What the variables of engines/tensorrt.py hold.
VARIABLES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "timing_cache": "ITimingCache",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "self._runtime": "Runtime",
    "config.get_timing_cache()": "ITimingCache",
}
VERSIONS = pytest.mark.parametrize("version", ["10.13.3.9", "11.4.0.106"])


def used() -> list[tuple[str, str]]:
    """(class, member) of every attribute of TensorRT's, "" for the module itself."""
    found = []
    for node in ast.walk(SOURCE):
        if not isinstance(node, ast.Attribute):
            continue
        base = ast.unparse(node.value).replace("self._trt", "trt")
        if base == "trt" or base.startswith("trt."):
            found.append((base.removeprefix("trt").lstrip("."), node.attr))
        elif base in VARIABLES:
            found.append((VARIABLES[base], node.attr))
    return found


@VERSIONS
def test_every_name_exists(version: str) -> None:
    assert len(used()) > 30
    for kind, member in used():
        assert member in NAMES[version][kind], f"TensorRT {version}: {kind or 'tensorrt'} has no {member}"


@VERSIONS
@pytest.mark.parametrize(
    ("kind", "member", "parameters"),
    [
        ("Builder", "create_network", ["self", "flags"]),
        ("OnnxParser", "parse", ["self", "model", "path"]),
        ("IBuilderConfig", "set_memory_pool_limit", ["self", "pool", "pool_size"]),
        ("IBuilderConfig", "create_timing_cache", ["self", "serialized_timing_cache"]),
        ("IBuilderConfig", "set_timing_cache", ["self", "cache", "ignore_mismatch"]),
        ("IExecutionContext", "set_tensor_address", ["self", "name", "memory"]),
        ("IExecutionContext", "execute_async_v3", ["self", "stream_handle"]),
        ("IProgressMonitor", "phase_start", ["self", "phase_name", "parent_phase", "num_steps"]),
        ("IProgressMonitor", "step_complete", ["self", "phase_name", "step"]),
        ("IProgressMonitor", "phase_finish", ["self", "phase_name"]),
        ("ILogger", "log", ["self", "severity", "msg"]),
    ],
)
def test_calls_have_the_parameters_that_are_passed(version: str, kind: str, member: str, parameters: list[str]) -> None:
    signature = NAMES[version][kind][member]
    inside = signature[signature.index("(") + 1 : signature.index(") ->")]
    assert [parameter.split(":")[0].strip() for parameter in inside.split(", ")] == parameters
