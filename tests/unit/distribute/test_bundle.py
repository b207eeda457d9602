"""A bundle is whole or it is refused."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import bundle
from flagprov.distribute.bundle import Bundle, BundledImage, open_bundle
from flagprov.distribute.layouts import ImageLayout, read_layout
from flagprov.errors import UsageError, VersionError
from flagprov.site import Site

RELEASE = load_release("qwen3-tiny-standin")


def layout(folder: Path) -> ImageLayout:
    """An image of one layer."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = json.dumps({"config": blob(b'{"architecture": "amd64"}'), "layers": [blob(b"layer")]}).encode()
    entry = {**blob(manifest), "annotations": {"org.opencontainers.image.ref.name": "r/m:1"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return read_layout(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    weights = tmp_path / "weights"
    (weights / "sub").mkdir(parents=True)
    (weights / "config.json").write_text("{}")
    (weights / "sub" / "model.safetensors").write_bytes(b"12345")
    files = [
        (name, (weights / name).stat().st_size, hashlib.sha256((weights / name).read_bytes()).hexdigest())
        for name in ("config.json", "sub/model.safetensors")
    ]
    images = [BundledImage(("cpu-x86",), "amd64", layout(tmp_path / "oci" / "one"))]
    bundle.write(RELEASE, images, weights, files, tmp_path / "b.tar", lambda text: None)
    return tmp_path / "b.tar"


def opened(file: Path) -> Bundle:
    return open_bundle(file, Site(file.parent / "site" / ".flagprov"))


def test_what_comes_out_is_what_went_in(file: Path) -> None:
    found = opened(file)
    assert found.release.name == RELEASE.name
    image = found.image("cpu-x86", "amd64")
    assert image.manifest in found.release.variants["cpu-x86"].image.digests
    assert (found.weights / "sub" / "model.safetensors").read_bytes() == b"12345"
    assert [name for name, _, _ in found.files] == ["config.json", "sub/model.safetensors"]
    assert opened(file) == found  # unpacked once
    with pytest.raises(UsageError, match="no image of qwen3-tiny-standin for cpu-x86 on arm64"):
        found.image("cpu-x86", "arm64")


def test_nobody_is_named_inside(file: Path) -> None:
    with tarfile.open(file) as archive:
        assert {(entry.uid, entry.uname, entry.mode) for entry in archive} == {(0, "", 0o644)}


def rewritten(file: Path, change: str) -> Path:
    """The same bundle with one entry changed, dropped, or added."""
    target = file.with_name("changed.tar")
    with tarfile.open(file) as archive, tarfile.open(target, "w") as out:
        for entry in archive:
            stream = archive.extractfile(entry)
            if entry.name == "weights/config.json":
                if change == "dropped":
                    continue
                if change == "changed":
                    (file.parent / "x").write_text("[]")
                    out.add(file.parent / "x", entry.name)
                    continue
            out.addfile(entry, stream)
        if change == "added":
            (file.parent / "x").write_text("more")
            out.add(file.parent / "x", "../more")
    return target


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("dropped", "lacks weights/config.json"),
        ("changed", "another sha256"),
        ("added", "not what its index says"),
    ],
)
def test_a_changed_bundle_is_refused_and_leaves_nothing(file: Path, change: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        opened(rewritten(file, change))
    assert [path.suffix for path in (file.parent / "site" / ".flagprov" / "bundles").iterdir()] == [".part"]
    assert not (file.parent / "more").exists()


@pytest.mark.parametrize("size", [0, 100, 1500, 6000])
def test_half_a_bundle_is_refused(file: Path, size: int) -> None:
    half = file.with_name("half.tar")
    half.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UsageError, match=r"half\.tar: (not a|lacks)"):
        opened(half)


def test_a_newer_bundle_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "SCHEMA_VERSION", 2)
    with pytest.raises(VersionError):
        opened(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        opened(tmp_path / "none.tar")
