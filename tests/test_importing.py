"""Which model a checkpoint is of, and how it is stored."""

from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from netweights import install, rule_state, rule_weights
from safetensors.torch import load_file, save_file
from weights_server import weights_server

import drba
from drba import weights
from drba.downloads import fetch
from drba.errors import ModelError
from drba.integrity import digest_of, locked, verify
from drba.models import find
from drba.networks import importing
from drba.networks.importing import Imported, import_file
from player.cli import main

SHARED_WEIGHTS = Path(__file__).parents[2] / "shared" / "weights"


empty_parts = lru_cache(maxsize=None)(importing.empty_parts)  # building them all takes half a second


@pytest.fixture(autouse=True)
def _data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRBA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(importing, "empty_parts", empty_parts)


@lru_cache(maxsize=4)
def state_of(manifest: str) -> dict[str, torch.Tensor]:
    return rule_state(manifest)


def save(path: Path, manifest: str = "rife_4_15_lite", prefix: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {prefix + name: tensor for name, tensor in state_of(manifest).items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def refused(path: Path, model: str | None = None, **options: bool) -> str:
    with pytest.raises(ModelError) as caught:
        import_file(path, model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def single(path: Path, model: str | None = None) -> Imported:
    (imported,) = import_file(path, model)
    return imported


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
def test_each_format_becomes_safetensors_with_plain_names(tmp_path: Path, suffix: str, prefix: str) -> None:
    imported = single(save(tmp_path / f"my_weights{suffix}", "distil_drba_v2_lite", prefix))
    spec = find("distil-drba-v2-lite")
    assert imported.target.spec == spec and imported.evidence == "shapes" and imported.new
    assert imported.path == weights.model_dir(spec) / "v2_lite.safetensors"
    stored, expected = load_file(imported.path), state_of("distil_drba_v2_lite")
    assert stored.keys() == expected.keys() and all(stored[name].equal(expected[name]) for name in stored)
    assert [status.state for status in verify(spec)] == ["ok"]
    drba.load("distil-drba-v2-lite", device="cpu")


AMBIGUOUS = {  # (manifest, file name) -> model or None where nothing tells
    ("rife_4_15_lite", "flownet_v4.15.lite.pkl"): "rife-4.15.lite",
    ("rife_4_15_lite", "rife417_lite.pth"): "rife-4.17.lite",
    ("rife_4_15_lite", "my.pkl"): None,
    ("rife_4_15", "flownet_v4.18.pkl"): "rife-4.18",
    ("rife_4_15", "RIFEv4_17.safetensors"): "rife-4.17",
    ("rife_4_15", "train_log_rife_415/flownet.pkl"): "rife-4.15",
    ("rife_4_15", "4.1.pkl"): None,
    ("rife_4_25", "flownet_v4.26.pkl"): "rife-4.26",
    ("rife_4_25", "flownet_v4.25.pkl"): "rife-4.25",
    ("rife_4_25", "flownet.pkl"): None,
    ("gmfss_metricnet", "gmfss_union_metric.pkl"): "gmfss-union",
    ("gmfss_metricnet", "gmfss_metric.pkl"): "gmfss",
    ("gmfss_metricnet", "train_log_gmfss_union/metric.pkl"): "gmfss-union",
    ("gmfss_metricnet", "metric.pkl"): None,
    ("rife_4_26_heavy", "anything.pkl"): "rife-4.26.heavy",
    ("rife_4_26_heavy", "rife.pkl"): "gmfss-union",
}


@pytest.mark.parametrize(("manifest", "name"), AMBIGUOUS, ids=lambda value: str(value))
def test_shapes_that_several_models_share_are_told_by_name(tmp_path: Path, manifest: str, name: str) -> None:
    path, model = save(tmp_path / "files" / name, manifest), AMBIGUOUS[manifest, name]
    if model is None:
        message = refused(path)
        assert " alike" in message and "--model NAME" in message
        assert not (tmp_path / "data").exists()
    else:
        assert single(path).target.spec.name == model


def test_a_refusal_lists_the_candidates(tmp_path: Path) -> None:
    assert "rife-4.15.lite, rife-4.17.lite" in refused(save(tmp_path / "my.pkl"))
    assert "metric of gmfss, metric of gmfss-union" in refused(save(tmp_path / "other.pkl", "gmfss_metricnet"))


def test_a_named_model_settles_it(tmp_path: Path) -> None:
    assert single(save(tmp_path / "flownet_v4.15.lite.pkl"), "rife4.17.lite").target.spec.name == "rife-4.17.lite"
    assert "expected weights of rife-4.6" in refused(tmp_path / "flownet_v4.15.lite.pkl", "rife-4.6")
    assert "needs no weights" in refused(tmp_path / "flownet_v4.15.lite.pkl", "flow")


def test_the_digest_counts_more_than_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "flownet_v4.15.lite.pkl")
    spec = find("rife-4.17.lite")
    public = replace(spec, parts=(replace(spec.parts[0], digest=digest_of(path, "sha256")),))
    monkeypatch.setattr(importing, "MODELS", (find("rife-4.15.lite"), public))
    imported = single(path)
    assert imported.target.spec.name == "rife-4.17.lite" and imported.evidence == "digest" and imported.public


def test_one_public_file_of_two_models_is_stored_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "metric.pkl", "gmfss_metricnet")
    digest = digest_of(path, "git-blob")
    specs = [
        replace(spec, parts=tuple(replace(part, digest=digest) for part in spec.parts))
        for spec in (find("gmfss"), find("gmfss-union"))
    ]
    monkeypatch.setattr(importing, "MODELS", specs)
    assert [item.target.spec.name for item in import_file(path)] == ["gmfss", "gmfss-union"]


@pytest.mark.skipif(not SHARED_WEIGHTS.is_dir(), reason="public checkpoints are not on this machine")
def test_public_checkpoints_are_told_by_digest(tmp_path: Path) -> None:
    for model in ("gmfss", "gmfss_union"):
        for part in ("feat", "metric"):
            path = tmp_path / f"{part}.pkl"
            shutil.copy(SHARED_WEIGHTS / f"{model}_{part}.pkl", path)
            imported = single(path)
            assert str(imported.target) == f"{part} of {find(model).name}" and imported.public


def save_gmfss(folder: Path) -> Path:
    for part, state in rule_weights("gmfss").items():
        folder.mkdir(exist_ok=True)
        torch.save(state, folder / f"{part}.pkl")
    return folder


def test_a_folder_with_all_parts_is_one_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "import", str(save_gmfss(tmp_path / "folder"))]) == 0
    out = capsys.readouterr().out
    assert out.count("told by folder; imported to") == 4 and "missing" not in out
    assert weights.is_installed(find("gmfss")) and not weights.is_installed(find("gmfss-union"))
    assert {status.state for status in verify(find("gmfss"))} == {"ok"}
    assert main(["models", "import", str(tmp_path / "folder"), "--model", "gmfss"]) == 0
    assert capsys.readouterr().out.count("installed already") == 4


def test_a_damaged_import_is_replaced_by_a_download(tmp_path: Path) -> None:
    path = save(tmp_path / "flownet_v4.22.lite.pkl", "rife_4_22_lite")
    imported = single(path)
    imported.path.write_bytes(imported.path.read_bytes()[:-1])
    assert [status.state for status in verify(imported.target.spec)] == ["changed"]
    with weights_server() as site:
        site.files[urlsplit(imported.target.part.url).path] = path.read_bytes()
        (fetched,) = fetch(imported.target.spec, base_url=site.url)
    assert fetched.new and not imported.path.exists()
    assert weights.find_file(imported.target.spec, "flownet") == fetched.path
    drba.load("rife-4.22.lite", device="cpu")


def test_a_folder_is_imported_whole_or_not_at_all(tmp_path: Path) -> None:
    save(tmp_path / "folder" / "a.pkl", "distil_drba_v2_lite")
    torch.save({"x": torch.zeros(1)}, tmp_path / "folder" / "b.pkl")
    assert "does not fit" in refused(tmp_path / "folder")
    shutil.copy(tmp_path / "folder" / "a.pkl", tmp_path / "folder" / "b.pkl")
    assert "are both distil-drba-v2-lite" in refused(tmp_path / "folder")
    assert not (tmp_path / "data").exists()
    (tmp_path / "empty").mkdir()
    assert "has no checkpoint" in refused(tmp_path / "empty")


def test_parts_still_missing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "import", str(save(tmp_path / "gmfss_metric.pkl", "gmfss_metricnet"))]) == 0
    assert "gmfss: flownet, feat, fusionnet missing yet" in capsys.readouterr().out


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"weight": _Code()}))
    torch.save({"weight": _Code()}, tmp_path / "zip.pth")
    for name in ("plain.pkl", "zip.pth"):
        assert "not a checkpoint of tensors" in refused(tmp_path / name)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
@pytest.mark.parametrize("size", [0, 100, -1000])
def test_a_truncated_file_is_refused_in_one_line(
    tmp_path: Path, suffix: str, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / f"flownet_v4.15.lite{suffix}")
    path.write_bytes(path.read_bytes()[:size])
    refused(path)
    assert main(["models", "import", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["models", "import", str(tmp_path / "nothing.pkl")]) == 2
    assert not (tmp_path / "data").exists()


def test_other_tensors_do_not_replace_an_installed_model_unless_forced(tmp_path: Path) -> None:
    path = save(tmp_path / "flownet_v4.15.lite.pkl")
    assert single(path).new and not single(path).new
    other = {name: tensor + 1 for name, tensor in state_of("rife_4_15_lite").items()}
    torch.save(other, path)
    assert "add --force" in refused(path)
    (replaced,) = import_file(path, force=True)
    name = next(iter(other))
    assert load_file(replaced.path)[name].equal(other[name])
    assert [status.state for status in verify(find("rife-4.15.lite"))] == ["ok"]


def test_installing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    message = refused(save(tmp_path / "flownet_v4.15.lite.pkl"))
    assert "No space left on device" in message
    assert [path.name for path in weights.model_dir(find("rife-4.15.lite")).iterdir()] == [".lock"]


def test_an_import_waits_for_no_other_command(tmp_path: Path) -> None:
    with locked(find("rife-4.15.lite")):
        assert "in use by another" in refused(save(tmp_path / "flownet_v4.15.lite.pkl"))


def test_half_precision_views_and_training_leftovers(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in state_of("distil_drba_v2_lite").items()}
    name, tensor = next((name, tensor) for name, tensor in state.items() if tensor.dim() == 1)
    state[name] = torch.stack([tensor, tensor])[0]  # a view of a larger storage
    torch.save({"state_dict": {**state, "teacher.weight": torch.zeros(1)}}, tmp_path / "v2.pkl")
    stored = load_file(single(tmp_path / "v2.pkl").path)
    assert stored.keys() == state.keys() and stored[name].equal(tensor)
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


def test_installed_by_hand_counts_as_installed(tmp_path: Path) -> None:
    install("rife-4.15.lite")
    assert [status.state for status in verify(find("rife-4.15.lite"))] == ["recorded"]
    assert not single(save(tmp_path / "flownet_v4.15.lite.pkl")).new
