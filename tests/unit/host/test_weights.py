"""A shard is whole when its size is what its own header says."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagprov.host import docker, prune, survey
from flagprov.host.resources import weights
from flagprov.host.transfer import manifest


def shard(data: bytes) -> bytes:
    header = json.dumps({"t": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def model(path: Path, content: bytes) -> dict[str, object]:
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(content)
    return weights.observe({"path": str(path)})


def test_a_whole_model_has_no_faults(tmp_path: Path) -> None:
    assert model(tmp_path, shard(b"x" * 100)) == {"exists": True, "faults": []}


def test_a_missing_directory(tmp_path: Path) -> None:
    assert weights.observe({"path": str(tmp_path / "no")}) == {"exists": False}


def test_a_shard_that_the_index_names_is_missing(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    observed = model(tmp_path, shard(b"x"))
    assert observed["faults"] == ["model-00002.safetensors: named by the index, but missing"]


def test_an_unfinished_download(tmp_path: Path) -> None:
    (tmp_path / "model-2.safetensors.incomplete").write_bytes(b"")
    observed = model(tmp_path, shard(b"x"))
    assert observed["faults"] == ["model-2.safetensors.incomplete: a download that did not finish"]


@given(data=st.binary(min_size=1, max_size=64), cut=st.integers(min_value=1, max_value=200))
def test_every_cut_is_found(tmp_path_factory, data: bytes, cut: int) -> None:  # type: ignore[no-untyped-def]
    whole = shard(data)
    path = tmp_path_factory.mktemp("shard") / "m.safetensors"
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    assert weights.shard_fault(str(path))


@given(content=st.binary(max_size=64))
def test_garbage_is_a_fault_and_never_an_exception(tmp_path_factory, content: bytes) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("shard") / "m.safetensors"
    path.write_bytes(content)
    assert isinstance(weights.shard_fault(str(path)), str)


@pytest.mark.parametrize(
    ("size", "active", "share", "used"),
    [
        (109, "active", "", "m-0 runs from it"),
        (200, "activating", "", "m-0 runs from it"),  # its size differs as well: another version all the same
        (109, "inactive", "", ""),
        (
            109,
            "inactive",
            "nfs4 filer:/x m",
            "it is on a share (nfs4 filer:/x m): other hosts may run from it",
        ),
    ],
)
def test_another_version_does_not_come_under_what_runs(
    size: int, active: str, share: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(shard(b"x" * 50))
    manifest.write(str(model), {"model.safetensors": "0" * 64}, {})
    monkeypatch.setattr(survey, "STATE", str(tmp_path / "state"))
    for name, path in (("m-0", model), ("n-0", tmp_path / "other")):
        (tmp_path / "state" / "replicas" / name).mkdir(parents=True)
        record = tmp_path / "state" / "replicas" / name / "record.json"
        record.write_text(json.dumps({"weights": str(path)}))
    monkeypatch.setattr(weights, "unit_state", lambda unit: {"ActiveState": active})
    monkeypatch.setattr(weights, "storage", lambda path: share)
    spec = {"path": str(model), "remedy": "r", "fetch": True}
    observed = weights.observe(dict(spec, files=[["model.safetensors", size, "1" * 64]]))
    assert observed["faults"] == ["model.safetensors: another version"]
    assert observed.get("used", "") == used
    assert weights.diff(spec, observed, set())[0][0] == ("block" if used else "fetch")
    same = weights.observe(dict(spec, files=[["model.safetensors", size + 1000, "0" * 64]]))
    assert weights.diff(spec, same, set())[0][0] == "fetch"  # damaged: the same version is brought again
    (model / manifest.NAME).unlink()
    unknown = weights.observe(dict(spec, files=[["model.safetensors", size + 1000, "1" * 64]]))
    runs = active != "inactive"  # nobody has hashed it: a share's may be a download that broke off
    assert weights.diff(spec, unknown, set())[0][0] == ("block" if runs else "fetch")


@pytest.mark.parametrize(
    ("origin", "share", "why"),
    [
        ({}, "", ""),
        ({}, "nfs4 filer:/x m", "{} is on a share (nfs4 filer:/x m): other hosts may use it"),
        ({"found": True}, "", "{} was not brought by flagprov: it was there before"),
        (None, "", "{} was not brought by flagprov: it was there before"),
    ],
)
def test_only_what_we_brought_to_this_hosts_own_disk_is_taken_away(
    origin: dict[str, object] | None, share: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.bin", "mine.txt"):
        (model / name).write_bytes(b"12")
    if origin is not None:
        manifest.write(str(model), {"model.bin": "0" * 64}, origin)
    monkeypatch.setattr(weights, "storage", lambda path: share)
    monkeypatch.setattr(docker, "call", lambda method, path: [])
    spec = {"path": str(model), "absent": True, "reason": "--weights"}
    assert prune.kept({"weights": [str(model), str(tmp_path / "no")]}) == {
        "kept": [why.format(model)] if why else []
    }
    observed = weights.observe(spec)
    assert observed == {"exists": not why}
    if not why:
        weights.apply(spec, observed)
        assert weights.observe(spec) == {"exists": False}
    assert (model / "model.bin").exists() == bool(why)
    assert (model / "mine.txt").exists()
