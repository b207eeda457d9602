"""The hubs' real clients against a local hub: lists, ranges, checksums, connections that break."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flagprov.catalog import load_release
from flagprov.distribute.fetch import ask_source, checked
from flagprov.distribute.lock import lock_weights, save
from flagprov.errors import FlagprovError
from flagprov.host import fetch as on_host
from flagprov.host.transfer import manifest
from flagprov.host.wire import Blocked
from flagprov.models.release import Lock
from tests.integration.hub import COMMIT, Hub, serving, sha256

FILES = {
    "config.json": b'{"architectures": []}',
    "model-1.safetensors": os.urandom(300_000),
    "sub/tokenizer.json": b"{}" * 4000,
}
TOKEN = "a-token-nobody-may-see"
SOURCES = ["modelscope://me/tiny", "hf://me/tiny", "web"]


def client_python() -> str:
    """A Python with the clients: what FLAGPROV_FETCH_PYTHON names, or this one."""
    import sys

    return os.environ.get("FLAGPROV_FETCH_PYTHON") or sys.executable


def has(module: str) -> bool:
    probe = [client_python(), "-c", f"import {module}"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub("me/tiny", FILES)) as started:
        yield started


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, hub: Hub) -> str:
    if request.param == "web":
        return f"{hub.address}/plain"
    module = "modelscope" if request.param.startswith("modelscope") else "huggingface_hub"
    if not has(module):
        pytest.skip(f"{module} is not installed; FLAGPROV_FETCH_PYTHON may name a Python that has it")
    return str(request.param)


@pytest.fixture
def ask(hub: Hub, tmp_path: Path) -> Any:
    kept = {name: os.environ[name] for name in ("PATH", "FLAGPROV_FETCH_PYTHON") if name in os.environ}
    environment = kept | {
        "HOME": str(tmp_path / "home"),
        "MODELSCOPE_ENDPOINT": hub.address,
        "MODELSCOPE_DOMAIN": hub.address.removeprefix("http://"),
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": TOKEN,
        "MODELSCOPE_API_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }

    def call(
        operation: str, source: str, folder: Path | None = None, revision: str | None = None
    ) -> dict[str, Any]:
        return ask_source(operation, source, revision, folder, environment=environment)

    return call


def test_a_list_names_revision_files_and_sizes(source: str, ask: Any) -> None:
    answer = ask("list", source)
    listed = {path: (size, digest) for path, size, digest in answer["files"]}
    assert {path: len(data) for path, data in FILES.items()} == {p: s for p, (s, _) in listed.items()}
    assert listed["model-1.safetensors"][1] == sha256(FILES["model-1.safetensors"])
    if "://me" in source:
        assert answer["revision"] in (COMMIT, "master")


def test_a_download_is_whole_and_its_manifest_has_every_sha256(
    source: str, ask: Any, hub: Hub, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    files = checked(folder, ask("get", source, folder))
    assert {path: digest for path, _, digest in files} == {p: sha256(d) for p, d in FILES.items()}
    assert all((folder / path).read_bytes() == data for path, data in FILES.items())
    asked = len([line for line in hub.asked if "model-1" in line and line.startswith("GET")])
    ask("get", source, folder)  # again: nothing is downloaded twice
    assert len([line for line in hub.asked if "model-1" in line and line.startswith("GET")]) == asked


def test_a_connection_that_breaks_is_taken_up(source: str, ask: Any, hub: Hub, tmp_path: Path) -> None:
    hub.breaks = {"model-1.safetensors": 1}
    folder = tmp_path / "model"
    checked(folder, ask("get", source, folder))
    assert (folder / "model-1.safetensors").read_bytes() == FILES["model-1.safetensors"]
    gets = [line for line in hub.asked if "model-1" in line and line.startswith("GET")]
    assert len(gets) > 1
    if not source.startswith("hf"):  # its client writes what it has in pieces of 10 MB
        assert "model-1.safetensors" in hub.ranges


def test_bytes_that_differ_from_the_list_are_never_kept(
    source: str, ask: Any, hub: Hub, tmp_path: Path
) -> None:
    hub.wrong = {"model-1.safetensors"}
    folder = tmp_path / "model"
    with pytest.raises(FlagprovError):
        checked(folder, ask("get", source, folder))
    assert not (folder / ".flagprov-manifest.json").exists()


def test_the_revision_that_is_named_is_the_one_that_comes(
    source: str, ask: Any, hub: Hub, tmp_path: Path
) -> None:
    if "://me" not in source:
        pytest.skip("a directory has no revisions")
    ask("get", source, tmp_path / "model", COMMIT)
    assert hub.revisions == {COMMIT}


def test_a_token_reaches_the_hub_and_no_disk(source: str, ask: Any, hub: Hub, tmp_path: Path) -> None:
    if "://me" not in source:
        pytest.skip("a directory knows no token")
    ask("get", source, tmp_path / "model")
    assert hub.tokens
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_what_the_hub_says_never_shows_the_token(ask: Any) -> None:
    if not has("huggingface_hub"):
        pytest.skip("huggingface_hub is not installed")
    with pytest.raises(FlagprovError) as caught:
        ask("list", "hf://me/none")
    assert TOKEN not in str(caught.value)
    assert "hf://me/none" in str(caught.value)


def test_a_client_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "raise ModuleNotFoundError(\"No module named 'modelscope_hub'\")"
    (tmp_path / "modelscope_hub.py").write_text(text)
    with pytest.raises(FlagprovError) as caught:
        ask_source("list", "modelscope://a/b", None, environment={"PYTHONPATH": str(tmp_path)})
    assert "flagprov[fetch]" in caught.value.remedy


def test_a_local_directory_is_locked_with_every_sha256(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_bytes(b"{}")
    release = load_release("qwen3-tiny")
    weights = release.weights.model_copy(update={"source": f"file://{model}"})
    locked = lock_weights(release.model_copy(update={"weights": weights}), lambda text: None)
    path = tmp_path / "locks" / "qwen3-tiny.json"
    first = {
        chip: {"r/m:1": ["sha256:" + digit * 64]} for chip, digit in (("cpu-x86", "a"), ("cpu-arm", "c"))
    }
    save(path, locked, first)
    # Its tag was moved: the old image is not wanted.
    save(path, locked, {"cpu-x86": {"r/m:1": ["sha256:" + "b" * 64]}})
    lock = Lock.model_validate_json(path.read_text())
    assert lock.weights is not None and lock.weights.files[0].sha256 == sha256(b"{}")
    assert {chip: image.references["r/m:1"][0][7] for chip, image in lock.variants.items()} == {
        "cpu-x86": "b",
        "cpu-arm": "c",
    }


def test_a_host_fetches_in_the_controllers_place(hub: Hub, tmp_path: Path) -> None:
    spec = {"source": f"{hub.address}/plain", "path": str(tmp_path / "model"), "environment": {}}
    answer = on_host.fetch(spec)
    assert {path: digest for path, _, digest in answer["files"]} == {p: sha256(d) for p, d in FILES.items()}
    assert not manifest.faults(str(tmp_path / "model"), [tuple(entry) for entry in answer["files"]])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_host_that_fetches_something_wrong_says_which_file(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = {"model-1.safetensors"}
    with pytest.raises(Blocked, match="model-1"):
        on_host.fetch({"source": f"{hub.address}/plain", "path": str(tmp_path / "model")})
    assert not (tmp_path / "model").exists()


def test_a_host_takes_no_other_file_than_the_locked_one(hub: Hub, tmp_path: Path) -> None:
    locked = [["model-1.safetensors", len(FILES["model-1.safetensors"]), "0" * 64]]
    spec = {"source": f"{hub.address}/plain", "path": str(tmp_path / "model"), "files": locked}
    with pytest.raises(Blocked, match=r"model-1\.safetensors: its sha256 is not the locked one"):
        on_host.fetch(spec)
    assert not (tmp_path / "model").exists()


def test_a_hosts_clients_trust_whom_the_host_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.crt"
    monkeypatch.setattr(on_host, "AUTHORITIES", (str(tmp_path / "no"), str(bundle)))
    assert on_host._trusted() == {}
    bundle.touch()
    assert on_host._trusted() == {"SSL_CERT_FILE": str(bundle), "REQUESTS_CA_BUNDLE": str(bundle)}
