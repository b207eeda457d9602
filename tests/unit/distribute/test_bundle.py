"""A bundle is whole or it is refused."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import bundle
from flagprov.distribute.bundle import Bundle, BundledImage, Part, open_bundle, read_index
from flagprov.distribute.layouts import ImageLayout, read_layout
from flagprov.errors import FlagprovError, UsageError, VersionError
from flagprov.report.bundle import document, items, lines
from flagprov.report.text import render
from flagprov.site import Site

RELEASE = load_release("qwen3-tiny-standin")
PLATFORM = "debian-12-x86_64"
OPEN = Path.open


def layout(folder: Path) -> ImageLayout:
    """An image of one layer."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    labels = {"org.opencontainers.image.licenses": "Apache-2.0"}
    config = json.dumps({"architecture": "amd64", "config": {"Labels": labels}}).encode()

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = json.dumps({"config": blob(config), "layers": [blob(b"layer")]}).encode()
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
    bundle.write(RELEASE, images, weights, files, tmp_path / "b.tar", lambda text: None, more(tmp_path))
    return tmp_path / "b.tar"


def more(folder: Path) -> list[Part]:
    (folder / "package").write_bytes(b"a package")
    (folder / "list").write_bytes(b"its list")
    (folder / "wheel").write_bytes(b"a wheel")
    return [
        Part(
            f"packages/{PLATFORM}/docker.io_1_amd64.deb", folder / "package", "docker.io", "20.10.24+dfsg1-1"
        ),
        Part(f"packages/{PLATFORM}/Packages", folder / "list"),
        Part("wheels/click-8.1.7-py3-none-any.whl", folder / "wheel", "click", "8.1.7", "BSD-3-Clause"),
    ]


def opened(file: Path) -> Bundle:
    return open_bundle(file, Site(file.parent / "site" / ".flagprov"))


def test_what_comes_out_is_what_went_in(file: Path) -> None:
    found = opened(file)
    assert found.release.name == RELEASE.name
    image = found.image("cpu-x86", "amd64")
    assert image.manifest in found.release.variants["cpu-x86"].image.digests
    assert (found.weights / "sub" / "model.safetensors").read_bytes() == b"12345"
    assert [name for name, _, _ in found.files] == ["config.json", "sub/model.safetensors"]
    packages = found.packages[PLATFORM]
    assert [name for name, _, _ in packages.files] == ["docker.io_1_amd64.deb", "Packages"]
    assert packages.versions == {"docker.io": "20.10.24+dfsg1-1"}
    assert (found.packages_root(PLATFORM) / "Packages").read_bytes() == b"its list"
    assert opened(file) == found  # unpacked once
    with pytest.raises(UsageError, match="no image of qwen3-tiny-standin for cpu-x86 on arm64"):
        found.image("cpu-x86", "arm64")


def test_two_runs_at_once_unpack_it_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack, lock = bundle._unpack, fcntl.flock
    begun: list[Path] = []
    waits = threading.Event()

    def locking(stream: Any, what: int) -> None:
        if begun:
            waits.set()
        lock(stream, what)

    def unpacking(path: Path, archive: tarfile.TarFile, index: dict[str, Any], root: Path) -> None:
        begun.append(root)
        if len(begun) == 1:
            others.append(pool.submit(opened, file))
            waits.wait(10)
        unpack(path, archive, index, root)

    monkeypatch.setattr(fcntl, "flock", locking)
    monkeypatch.setattr(bundle, "_unpack", unpacking)
    others: list[Future[Bundle]] = []
    with ThreadPoolExecutor(1) as pool:
        found = opened(file)
        assert others[0].result() == found
    assert len(begun) == 1
    assert (file.parent / "site" / ".flagprov").stat().st_mode & 0o777 == 0o700


def test_nobody_is_named_inside(file: Path) -> None:
    with tarfile.open(file) as archive:
        assert {(entry.uid, entry.uname, entry.mode) for entry in archive} == {(0, "", 0o644)}


def test_links_go_in_as_the_files_that_they_lead_to(tmp_path: Path) -> None:
    weights = tmp_path / "weights"  # as a hub's client keeps them
    weights.mkdir()
    (tmp_path / "blob").write_bytes(b"12345")
    (weights / "model.safetensors").symlink_to(tmp_path / "blob")
    first, second = layout(tmp_path / "oci" / "one"), tmp_path / "oci" / "two"
    shutil.copytree(first.root, second, copy_function=os.link)  # two images on one base share its layers
    images = [
        BundledImage(("cpu-x86",), "amd64", first),
        BundledImage(("cpu-x86",), "arm64", read_layout(second)),
    ]
    files = [("model.safetensors", 5, hashlib.sha256(b"12345").hexdigest())]
    bundle.write(RELEASE, images, weights, files, tmp_path / "b.tar", lambda text: None)
    found = opened(tmp_path / "b.tar")
    assert (found.weights / "model.safetensors").read_bytes() == b"12345"
    assert found.image("cpu-x86", "arm64").blobs == first.blobs


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


def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> IO[Any]:
    """As on a disk without room."""
    return OPEN(Path("/dev/full") if mode == "wb" else path, mode, *rest, **more)


def test_a_full_disk_is_not_the_bundles_fault(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UsageError) as caught:
        opened(file)
    folder = file.parent / "site" / ".flagprov" / "bundles"
    assert caught.value.message == f"{folder} on this controller: no space left on device"
    assert "make room there" in caught.value.remedy
    assert not list(folder.glob("[!.]*"))


def test_a_bundle_that_finds_no_room_gives_back_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image = BundledImage(("cpu-x86",), "amd64", layout(tmp_path / "oci" / "one"))
    monkeypatch.setattr(tarfile.TarFile, "add", add)
    with pytest.raises(FlagprovError, match="no space left on device"):
        bundle.write(RELEASE, [image], tmp_path, [], tmp_path / "b.tar", lambda text: None)
    assert [path.name for path in tmp_path.iterdir()] == ["oci"]


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
    left = (file.parent / "site" / ".flagprov" / "bundles").glob("[!.]*")
    assert [path.suffix for path in left] == [".part"]
    assert not (file.parent / "more").exists()


def test_an_image_lies_in_a_directory_of_its_own(file: Path) -> None:
    """Its name is that of a directory on hosts, too, which goes when dockerd has the image."""
    target = file.with_name("changed.tar")
    with tarfile.open(file) as archive, tarfile.open(target, "w") as out:
        for entry in archive:
            data = archive.extractfile(entry)
            assert data
            if entry.name == "bundle.json":
                text = data.read().replace(b'"layout": "one"', b'"layout": ".."')
                entry.size, data = len(text), io.BytesIO(text)
            out.addfile(entry, data)
    with pytest.raises(UsageError, match=r"changed\.tar: not a whole bundle \(an image lies in '\.\.'\)"):
        opened(target)


@pytest.mark.parametrize("size", [0, 100, 1500])
def test_half_a_bundle_is_refused(file: Path, size: int) -> None:
    half = file.with_name("half.tar")
    half.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UsageError, match=r"half\.tar: (not a|bundle\.json is cut off)"):
        opened(half)


def test_where_a_bundle_is_cut_off_the_member_is_named(file: Path) -> None:
    data = file.read_bytes()
    with tarfile.open(file) as archive:
        members = [(entry.name, entry.offset, entry.offset_data) for entry in archive][1:]
    half = file.with_name("half.tar")
    for name, head, begin in members:
        for size, said in ((head, "lacks"), (head + 300, ""), (begin + 1, "is cut off")):
            half.write_bytes(data[:size])
            with pytest.raises(UsageError) as caught:
                opened(half)
            assert name in caught.value.message and said in caught.value.message


def test_a_byte_that_was_changed_is_named_by_its_member(file: Path) -> None:
    data = bytearray(file.read_bytes())
    with tarfile.open(file) as archive:
        members = [(entry.name, entry.offset, entry.offset_data) for entry in archive][1:]
    changed = file.with_name("changed.tar")
    for name, head, begin in members:
        for place in (head + 150, begin):  # its checksum in the header, its first byte
            data[place] ^= 1
            changed.write_bytes(data)
            data[place] ^= 1
            with pytest.raises(UsageError, match=name):
                opened(changed)


def test_what_is_inside_is_read_from_its_beginning(file: Path) -> None:
    with tarfile.open(file) as archive:
        begin = archive.getmembers()[1].offset
    half = file.with_name("half.tar")
    half.write_bytes(file.read_bytes()[:begin])
    found = items(read_index(half))
    named = [(item.kind, item.name, item.version, item.size, item.licence, item.platform) for item in found]
    image = found[1]
    assert image.kind == "image" and image.name == "r/m:1" and image.version == f"sha256:{image.sha256}"
    assert image.licence == "Apache-2.0" and image.platform == "cpu-x86 amd64" and image.size > 100
    licence = RELEASE.card.licence if RELEASE.card else ""
    assert named[0][:3] == ("release", RELEASE.name, "") and named[0][4] == licence
    assert named[2:] == [
        ("weights", "config.json", "", 2, licence, ""),
        ("weights", "sub/model.safetensors", "", 5, licence, ""),
        ("package", "docker.io", "20.10.24+dfsg1-1", 9, "", PLATFORM),
        ("wheel", "click", "8.1.7", 7, "BSD-3-Clause", ""),
    ]
    shown = "\n".join(render(lines(read_index(half))).splitlines())
    assert "docker.io" in shown and "licence unknown" in shown and "6 items" in shown
    assert document(read_index(half))["items"][-1]["licence"] == "BSD-3-Clause"


def test_a_newer_bundle_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "SCHEMA_VERSION", bundle.SCHEMA_VERSION + 1)
    with pytest.raises(VersionError):
        opened(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        opened(tmp_path / "none.tar")
