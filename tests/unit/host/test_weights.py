"""A shard is whole when its size is what its own header says."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flagprov.host.resources import weights


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
