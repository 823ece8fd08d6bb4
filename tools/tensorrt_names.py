"""Write tests/data/tensorrt_names.json: what TensorRT's published Python bindings have, by version.

    pip download --no-deps tensorrt-cu13-bindings==10.13.3.9 tensorrt-cu13-bindings==11.4.0.106 -d WHEELS   # one at a time
    python tools/tensorrt_names.py WHEELS/*.whl

The bindings are imported for real, without TensorRT: a C compiler makes empty libraries with the nine functions that they are
linked against, none of which is called. What is written are the members of the classes that engines/tensorrt.py uses, with
signatures where the bindings state them.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "tensorrt_names.json"
CLASSES = (
    "Builder",
    "BuilderFlag",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "ILogger.Severity",
    "INetworkDefinition",
    "IProgressMonitor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "Runtime",
)
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


def main() -> None:
    if sys.argv[1:2] == ["--members"]:
        print(json.dumps(members()))
        return
    found = {}
    for wheel in map(Path, sys.argv[1:]):
        version = wheel.name.split("-")[1]
        with TemporaryDirectory() as folder:
            zipfile.ZipFile(wheel).extractall(folder)
            make_libraries(Path(folder), version.partition(".")[0])
            environment = {**os.environ, "LD_LIBRARY_PATH": folder, "PYTHONPATH": folder}
            command = [sys.executable, __file__, "--members"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[version] = json.loads(done.stdout)
    OUTPUT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def make_libraries(folder: Path, major: str) -> None:
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for name in LIBRARIES:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / f"lib{name}.so.{major}", source], check=True)


def members() -> dict[str, dict[str, str]]:
    import tensorrt_bindings as trt

    found: dict[str, dict[str, str]] = {"": {name: "" for name in ("__version__", *CLASSES) if "." not in name}}
    for path in CLASSES:
        kind = trt
        for name in path.split("."):
            kind = getattr(kind, name)
        found[path] = {
            name: signature(getattr(kind, name)) for name in dir(kind) if name[0] != "_" or name == "__init__"
        }
    return found


def signature(member: object) -> str:
    """Its line in the documentation: pybind11 writes signatures there."""
    first = (inspect.getdoc(member) or "").partition("\n")[0] if inspect.isroutine(member) else ""
    return first.replace("tensorrt_bindings.tensorrt.", "") if "(" in first else ""


if __name__ == "__main__":
    main()
