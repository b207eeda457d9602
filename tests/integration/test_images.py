"""Images from one real registry to another, and from a real archive; docker pulls what came of it."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flagprov.distribute import images, mirror
from flagprov.distribute.images import FromArchive, FromRegistry, push
from flagprov.distribute.layouts import ImageLayout, fetch_layout, read_layout
from flagprov.distribute.registry import MANIFESTS, Registry, digests_of, sha256
from flagprov.errors import FlagprovError, UsageError
from flagprov.host import docker, layers, oci
from flagprov.host.wire import Blocked
from flagprov.lab import machine, network
from flagprov.lab.layout import find_layout
from flagprov.models.fleet import Connection, Host

NAME = "flagrelease/tiny"


@dataclass(frozen=True)
class Server:
    """A registry on loopback."""

    host: str
    root: Path

    def open(self, name: str = NAME) -> Registry:
        return Registry(self.host, name)

    def blobs(self) -> int:
        return len(list(self.root.glob("docker/registry/v2/blobs/sha256/*/*/data")))


@contextlib.contextmanager
def registry(program: Path, root: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = root / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: '{host}'}}\n"
    )
    with (root / "log").open("w") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
        try:
            address, port = host.split(":")
            while process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection((address, int(port)), 1):
                    break
            yield Server(host, root)
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def program() -> Path:
    machine.require_known_machine()
    return network.fetch_registry(find_layout())


@pytest.fixture
def upstream(program: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "upstream").mkdir()
    with registry(program, tmp_path / "upstream") as server:
        yield server


@pytest.fixture
def site(program: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "site").mkdir()
    with registry(program, tmp_path / "site") as server:
        yield server


def layer(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("hello")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def publish(server: Server, text: str, architecture: str = "amd64", *above: str) -> tuple[str, str]:
    """Manifest and config digest of a tiny image, a layer for each text; its tag is its processor."""
    layers = [layer(each) for each in (text, *above)]
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [sha256(data) for data in layers]},
        }
    ).encode()
    parts = [
        {"mediaType": images.LAYER if number else images.CONFIG, "digest": sha256(blob), "size": len(blob)}
        for number, blob in enumerate((config, *layers))
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFESTS[0], "config": parts[0], "layers": parts[1:]}
    written = json.dumps(manifest).encode()
    with server.open() as target:
        for blob in (config, *layers):
            target.put_blob(sha256(blob), len(blob), [blob])
        target.put_manifest(architecture, written, MANIFESTS[0])
    return sha256(written), sha256(config)


def publish_index(server: Server) -> dict[str, tuple[str, str]]:
    """Images for two processors under one tag, `both`."""
    found = {name: publish(server, name, name) for name in ("amd64", "arm64")}
    kind = "application/vnd.oci.image.index.v1+json"
    entries = []
    for name, (digest, _) in found.items():
        with server.open() as source:
            size = len(source.manifest(digest)[0])
        platform = {"architecture": name, "os": "linux"}
        entries.append({"mediaType": MANIFESTS[0], "digest": digest, "size": size, "platform": platform})
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
    with server.open() as target:
        target.put_manifest("both", index, kind)
    return found


def copy(source: Server, target: Server, tag: str, *architectures: str) -> int:
    with source.open() as origin, target.open() as place:
        image = FromRegistry(origin, f"{source.host}/{NAME}:{tag}")
        return push(image, image.parts(architectures or ["amd64"]), place, tag, print)


def test_what_docker_pulls_is_what_was_published(upstream: Server, site: Server) -> None:
    _, config = publish(upstream, "hello")
    assert copy(upstream, site, "amd64") > 0
    reference = f"{site.host}/{NAME}:amd64"
    assert digests_of(reference, ["amd64"]) == digests_of(f"{upstream.host}/{NAME}:amd64", ["amd64"])
    try:
        subprocess.run(["docker", "pull", "--quiet", reference], check=True, capture_output=True)
        found = subprocess.run(
            ["docker", "inspect", "--format", "{{.Id}}", reference],
            check=True,
            capture_output=True,
            text=True,
        )
        assert found.stdout.strip() == config
    finally:
        subprocess.run(["docker", "rmi", reference], check=False, capture_output=True)


def test_a_second_push_copies_nothing(upstream: Server, site: Server) -> None:
    publish(upstream, "hello")
    copy(upstream, site, "amd64")
    assert copy(upstream, site, "amd64") == 0


def test_only_the_fleets_processors_are_copied(upstream: Server, site: Server) -> None:
    found = publish_index(upstream)
    copy(upstream, site, "both", "arm64")
    assert digests_of(f"{site.host}/{NAME}:both", ["arm64"]) == list(found["arm64"])
    assert site.blobs() == 3  # layer, configuration, manifest
    copy(upstream, site, "both", "amd64", "arm64")
    assert digests_of(f"{site.host}/{NAME}:both", ["amd64"])[1:] == list(found["amd64"])


def test_a_push_that_was_broken_off_goes_on(
    upstream: Server, site: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(upstream, "x" * 5000)
    real = Registry.blob

    def broken(self: Registry, digest: str, begun: Iterable[bytes] = ()) -> Iterator[bytes]:
        for piece in real(self, digest, begun):
            yield piece[:1000]
            raise FlagprovError("the line went dead")

    monkeypatch.setattr(Registry, "blob", broken)
    with pytest.raises(FlagprovError, match="went dead"):
        copy(upstream, site, "amd64")
    monkeypatch.undo()
    assert copy(upstream, site, "amd64") > 0
    assert digests_of(f"{site.host}/{NAME}:amd64", ["amd64"]) == digests_of(
        f"{upstream.host}/{NAME}:amd64", ["amd64"]
    )


def test_an_archive_of_docker_save(site: Server, tmp_path: Path) -> None:
    name, file = f"flagprov-test-{uuid.uuid4().hex[:8]}:1", tmp_path / "image.tar"
    try:
        imported = subprocess.run(
            ["docker", "import", "-", name], input=layer("saved"), check=True, capture_output=True
        )
        subprocess.run(["docker", "save", "-o", file, name], check=True)
    finally:
        subprocess.run(["docker", "rmi", name], check=False, capture_output=True)
    archive = FromArchive(file)
    with site.open() as place:
        assert push(archive, archive.parts(["amd64"]), place, "saved", print) > 0
    assert imported.stdout.decode().strip() in digests_of(f"{site.host}/{NAME}:saved", ["amd64"])


@pytest.mark.parametrize("content", [b"", b"no archive", layer("not an image")])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.tar: not an archive of docker save"):
        FromArchive(tmp_path / "x.tar")


def test_an_image_that_is_not_the_locked_one_is_not_copied(upstream: Server, site: Server) -> None:
    publish(upstream, "moved")
    wanted = mirror.Copy(
        f"{upstream.host}/{NAME}:amd64",
        f"{site.host}/{NAME}:amd64",
        Host("h1", Connection("192.0.2.1")),
        {"amd64": None},
        {"cpu-x86": ("sha256:" + "0" * 64,)},
    )
    with pytest.raises(FlagprovError, match="not the image that is locked for cpu-x86"):
        mirror._mirror(wanted, wanted.source, print)
    assert site.blobs() == 0


def test_a_registry_without_the_image(upstream: Server, site: Server) -> None:
    with pytest.raises(FlagprovError, match="the registry says 404"):
        copy(upstream, site, "nothing")
    publish_index(upstream)
    with pytest.raises(FlagprovError, match="has no image for riscv64"):
        copy(upstream, site, "both", "riscv64")


def test_progress_is_said(upstream: Server, site: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SAY_S", -1.0)
    publish(upstream, "x" * 100_000)
    said: list[str] = []
    with upstream.open() as origin, site.open() as place:
        image = FromRegistry(origin, f"{upstream.host}/{NAME}:amd64")
        push(image, image.parts(["amd64"]), place, "amd64", said.append)
    assert any("MB" in text for text in said)


def spec_of(layout: ImageLayout, name: str) -> dict[str, Any]:
    return {"path": str(layout.root.parent), "reference": name, "manifest": layout.manifest, "digests": []}


def test_dockerd_takes_an_image_from_files(upstream: Server, tmp_path: Path) -> None:
    publish_index(upstream)
    reference, name = f"{upstream.host}/{NAME}:both", f"flagprov-test-{uuid.uuid4().hex[:8]}:1"
    with upstream.open() as origin:
        layout = fetch_layout(
            FromRegistry(origin, reference), reference, "amd64", [], tmp_path / "oci", print
        )
        again = fetch_layout(FromRegistry(origin, reference), reference, "amd64", [], tmp_path / "oci", print)
    assert layout == again == read_layout(layout.root)
    whole = layout.part([digest for digest, _ in layout.blobs])
    assert sorted(path for path, _, _ in whole.files) == sorted(
        str(path.relative_to(layout.root)) for path in (layout.root / "blobs").rglob("*") if path.is_file()
    )
    try:
        found = oci.load(spec_of(layout, name))
        assert not found["missing"]
        assert found["id"] in digests_of(reference, ["amd64"])
        assert docker.image_id(name, []) == found["id"]
        held = docker.call("GET", f"/images/{docker.quote(name)}/json")
        assert (held["RepoTags"], held["RepoDigests"]) == ([name], [])
    finally:
        subprocess.run(["docker", "rmi", "--force", name], check=False, capture_output=True)
        subprocess.run(["docker", "rmi", "--force", found["id"]], check=False, capture_output=True)


def test_a_changed_file_is_not_taken(upstream: Server, tmp_path: Path) -> None:
    publish(upstream, "hello")
    reference = f"{upstream.host}/{NAME}:amd64"
    with upstream.open() as origin:
        layout = fetch_layout(
            FromRegistry(origin, reference), reference, "amd64", [], tmp_path / "oci", print
        )
    for digest, size in layout.blobs:
        if digest != layout.manifest:
            (layout.root / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(b"x" * size)
    with pytest.raises(Blocked, match="dockerd cannot take"):
        oci.load(spec_of(layout, "flagprov-test:never"))


def test_dockerd_asks_only_for_the_layers_that_it_lacks(upstream: Server, tmp_path: Path) -> None:
    base, mark = uuid.uuid4().hex, f"flagprov-test-{uuid.uuid4().hex[:8]}"
    reference = f"{upstream.host}/{NAME}:amd64"
    with upstream.open() as origin:
        publish(upstream, base, "amd64", "old")
        old = fetch_layout(FromRegistry(origin, reference), reference, "amd64", [], tmp_path / "old", print)
        publish(upstream, base, "amd64", "new")
        new = fetch_layout(FromRegistry(origin, reference), reference, "amd64", [], tmp_path / "new", print)
    lowest, highest = (digest for digest, _ in new.layers)
    try:
        assert layers.held([lowest, highest]) == set()
        oci.load(spec_of(old, f"{mark}:old"))
        assert layers.held([lowest, highest]) == {lowest}
        (new.root / "blobs/sha256" / lowest.removeprefix("sha256:")).unlink()
        assert oci.load(spec_of(new, f"{mark}:new"))["missing"] == []
    finally:
        names = [f"{mark}:{tag}" for tag in ("old", "new")]
        subprocess.run(["docker", "rmi", "--force", *names], check=False, capture_output=True)
    assert layers.held([lowest, highest]) == set()
    assert oci.load(spec_of(new, f"{mark}:never"))["missing"] == [lowest]
