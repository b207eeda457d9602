"""Images as the registry's storage holds them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

from flagprov.lab.oci import Blob, Storage


def data(root: Path, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return root / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def tree(path: Path, content: str = "x") -> Path:
    (path / "etc").mkdir(parents=True)
    (path / "etc" / "file").write_text(content)
    return path


def test_a_layer_is_its_tar_by_its_digest(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "storage")
    blob = storage.layer(tree(tmp_path / "base"))
    stored = data(tmp_path / "storage", blob.digest)
    assert blob == Blob(f"sha256:{hashlib.sha256(stored.read_bytes()).hexdigest()}", stored.stat().st_size)
    with tarfile.open(stored) as archive:
        assert "./etc/file" in archive.getnames()
    assert storage.has(blob)


def test_an_image_is_found_by_tag_and_digest(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    layer = storage.layer(tree(tmp_path / "base"))
    image = storage.image("engine", "1.0", [layer], {"Cmd": ["bash"]})
    home = tmp_path / "docker/registry/v2/repositories/engine"
    assert (home / "_manifests/tags/1.0/current/link").read_text() == image.manifest
    manifest = json.loads(data(tmp_path, image.manifest).read_text())
    assert manifest["config"]["digest"] == image.config
    assert [entry["digest"] for entry in manifest["layers"]] == [layer.digest]
    config = json.loads(data(tmp_path, image.config).read_text())
    assert config["rootfs"]["diff_ids"] == [layer.digest]
    assert (home / "_layers" / layer.digest.replace(":", "/") / "link").read_text() == layer.digest


def test_the_same_input_gives_the_same_digests(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    layer = Blob("sha256:" + "a" * 64, 1)
    assert storage.image("engine", "1", [layer], {}) == storage.image("engine", "1", [layer], {})


def test_a_truncated_layer_is_not_there(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    blob = storage.layer(tree(tmp_path / "base"))
    data(tmp_path, blob.digest).write_bytes(b"short")
    assert not storage.has(blob)


def test_layers_that_nothing_uses_are_swept(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    old = storage.layer(tree(tmp_path / "old", "o" * (2 << 20)))
    new = storage.layer(tree(tmp_path / "new", "n" * (2 << 20)))
    storage.sweep([new])
    assert storage.has(new) and not storage.has(old)
