"""Layers that dockerd has are found by what it goes by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import docker, layers
from flagprov.host.transfer import manifest

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")  # layers as they come


def sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Store:
    """dockerd's notes of layers, as it keeps them beside overlay2."""

    def __init__(self, root: Path) -> None:
        self.image = root / "image" / "overlay2"

    def pulled(self, digest: str) -> str:
        """A layer was pulled once: dockerd remembers what it unpacks to, for ever."""
        path = self.image / "distribution/diffid-by-digest/sha256" / digest[7:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sha(digest))
        return sha(digest)

    def unpacked(self, *digests: str) -> Path:
        """These layers lie one on the other."""
        chain = ""
        for digest in digests:
            chain = sha(f"{chain} {sha(digest)}") if chain else sha(digest)
        path = self.image / "layerdb/sha256" / chain[7:]
        path.mkdir(parents=True)
        return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    info = {
        "DockerRootDir": str(tmp_path),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "x"]],
    }
    monkeypatch.setattr(docker, "call", lambda method, path: info)
    store = Store(tmp_path)
    for digest in (A, B, C):
        store.pulled(digest)
    return store


def test_the_lowest_layers_that_lie_one_on_the_other_need_not_come(store: Store) -> None:
    store.unpacked(A)
    store.unpacked(A, B)
    assert layers.held([A, B, C]) == {A, B}
    assert layers.held([A, C, B]) == {A}
    assert layers.held([B, A]) == set()  # on another one it is another layer
    assert layers.held([]) == set()


def test_a_layer_that_comes_once_more_above_is_asked_for(store: Store) -> None:
    store.unpacked(A)
    assert layers.held([A, B, A]) == set()


def test_a_layer_of_a_removed_image_is_not_there(store: Store) -> None:
    store.unpacked(A).rmdir()
    assert layers.held([A, B]) == set()


def test_one_that_came_by_docker_load_has_no_digest_and_is_asked_for(store: Store) -> None:
    store.unpacked(A)
    (store.image / "distribution/diffid-by-digest/sha256" / A[7:]).unlink()
    assert layers.held([A]) == set()


@pytest.mark.parametrize("place", ["containerd/daemon", "../containerd"])
def test_with_containerds_store_any_layer_that_is_there(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "docker"
    driver = [["driver-type", "io.containerd.snapshotter.v1"]]
    info = {"DockerRootDir": str(root), "Driver": "overlayfs", "DriverStatus": driver}
    monkeypatch.setattr(docker, "call", lambda method, path: info)
    monkeypatch.setattr(layers, "CONTAINERD", (str(tmp_path / "containerd"), layers.CONTAINERD[1]))
    blob = (root / place).resolve() / layers.CONTENT / B[7:]
    blob.parent.mkdir(parents=True)
    blob.touch()
    assert layers.held([A, B]) == {B}


def test_a_host_without_dockerd_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docker, "SOCKET", str(tmp_path / "nowhere"))
    assert layers.held([A]) == set()
    assert layers.data_root() == "/var/lib/docker"


def test_what_an_earlier_run_brought_need_not_come_again(tmp_path: Path) -> None:
    assert layers.arrived(str(tmp_path / "nowhere")) == set()
    names = {"one": A, "one.flagprov-two": B}  # the second is on its way: its files have their sizes already
    for name, digest in names.items():
        blob = tmp_path / name / "blobs/sha256" / digest[7:]
        blob.parent.mkdir(parents=True)
        blob.write_text("x")
        manifest.write(str(tmp_path / name), {f"blobs/sha256/{digest[7:]}": digest[7:]}, {})
    assert layers.arrived(str(tmp_path)) == {A}
    (tmp_path / "one/blobs/sha256" / A[7:]).write_text("changed")
    assert layers.arrived(str(tmp_path)) == set()


def test_what_is_not_understood_is_no_layer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer: dict[str, Any] = {"DockerRootDir": str(tmp_path), "DriverStatus": None}
    monkeypatch.setattr(docker, "call", lambda method, path: answer)
    assert layers.held(["sha256:../../etc", "", A]) == set()
