"""The lab's stand-in engine on a molecule host: `standin.py NAME` loads its image and copies the model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import IO, Any

from flagprov.lab import serving
from flagprov.lab.layout import MODEL, REGISTRY_NAME, WEIGHTS_ROOT, Layout, find_layout
from flagprov.lab.oci import Image

BUILD = Path(__file__).resolve().parents[2] / "build" / "molecule"


def main() -> None:
    """Build what is missing; the rest is as it was in earlier runs."""
    lab, host = find_layout(), Layout(BUILD / sys.argv[1]).container("lab1")
    built = serving.build(lab, lambda text: None)
    image = next(image for image in built.plain if image.repository == "standin")
    on_host = ["docker", "exec", "--interactive", host]
    with subprocess.Popen([*on_host, "docker", "load"], stdin=subprocess.PIPE) as load:
        assert load.stdin is not None
        write_archive(lab, image, load.stdin)
        load.stdin.close()
    assert load.returncode == 0
    subprocess.run([*on_host, "mkdir", "--parents", WEIGHTS_ROOT], check=True)
    subprocess.run(["docker", "cp", str(lab.model), f"{host}:{WEIGHTS_ROOT}/{MODEL}"], check=True)


def write_archive(lab: Layout, image: Image, target: IO[bytes]) -> None:
    """The image as `docker load` takes it, from the blobs of the lab's registry."""
    manifest = json.loads(blob(lab, image.manifest).read_bytes())
    layers = [layer["digest"] for layer in manifest["layers"]]
    name = f"{REGISTRY_NAME}/{image.repository}:{image.tag}"
    content: list[dict[str, Any]] = [{"Config": "config.json", "RepoTags": [name], "Layers": layers}]
    with tarfile.open(fileobj=target, mode="w|") as archive:
        add(archive, "manifest.json", json.dumps(content).encode())
        add(archive, "config.json", blob(lab, image.config).read_bytes())
        for digest in layers:
            member = tarfile.TarInfo(digest)
            member.size = blob(lab, digest).stat().st_size
            with blob(lab, digest).open("rb") as stream:
                archive.addfile(member, stream)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def blob(lab: Layout, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return lab.blobs / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


if __name__ == "__main__":
    main()
