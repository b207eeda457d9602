"""An image with build steps: built on one host, served by all, and started without any network."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pip
import pytest
import yaml

from flagprov.catalog import load_release
from flagprov.catalog.show import as_dict
from flagprov.lab import serving
from flagprov.lab.cards import PACKAGES
from flagprov.lab.layout import Layout
from flagprov.lab.oci import Storage

from .conftest import ROOT, Lab

NAME = "built-standin"
# A package that builds itself, so that nothing else has to be in the image.
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import os, zipfile

def build_wheel(directory, settings=None, metadata=None):
    info = "greeting-1.0.dist-info"
    files = {
        "greeting.py": "TEXT = 'hello'\\n",
        info + "/METADATA": "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[info + "/RECORD"] = "".join("%s,,\\n" % name for name in [*files, info + "/RECORD"])
    name = "greeting-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return name
"""


@pytest.fixture
def release(clean_hosts: Lab, tmp_path: Path) -> Iterator[Path]:
    """The stand-in's release, its image with pip in it, and a step that installs from a repository."""
    layout = Layout(ROOT)
    storage, known = Storage(layout.blobs), serving._read(layout)
    copytree(Path(pip.__file__).parent, tmp_path / "layer" / PACKAGES / "pip")
    layers = [*(known[name][1] for name in ("base", "common", "standin")), storage.layer(tmp_path / "layer")]
    environment = [f"{name}={value}" for name, value in serving.ENVIRONMENT.items()]
    storage.image("standin-pip", "1", layers, {"Env": environment, "Cmd": ["bash"]})
    repository = tmp_path / "greeting"
    repository.mkdir()
    (repository / "pyproject.toml").write_text(PROJECT)
    (repository / "backend.py").write_text(BACKEND)
    for words in ("init --quiet --initial-branch=main", "add .", "commit --quiet --message=first"):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", "-C", repository, *identity, *words.split()], check=True)
    found = as_dict(load_release("qwen3-tiny-standin"))
    found["name"] = NAME
    found["weights"]["source"] = f"file://{layout.model}"
    step = {"git": f"file://{repository}", "ref": "main"}
    found["variants"]["cpu-x86"]["image"] = {"reference": "flagprov-lab/standin-pip:1", "build": [step]}
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(found))
    yield path
    clean_hosts.teardown()
    (layout.locks / f"{NAME}.json").unlink(missing_ok=True)


def test_it_is_built_once_and_starts_without_any_network(release: Path, clean_hosts: Lab) -> None:
    lab = clean_hosts
    refused = lab.flagprov("plan", lab.inventory, release)
    assert refused.code == 2 and "has no locked digest" in refused.err, refused
    locked = lab.flagprov("releases", "lock", release, "--inventory", lab.inventory)
    assert locked.code == 0, locked
    lab.deploy(str(release))
    assert lab.states(NAME) == dict.fromkeys(lab.hosts, "ready")
    builders = [
        host for host in lab.hosts if lab.on(host, "ls -d /var/lib/flagprov/jobs/build-*", check=False)
    ]
    assert len(builders) == 1
    shown = "docker images --no-trunc --format '{{.Repository}} {{.ID}}' | grep ^localhost/flagprov/"
    images = {lab.on(host, shown) for host in lab.hosts}
    assert len(images) == 1 and images.pop().startswith(f"localhost/flagprov/{NAME} sha256:")
    inside = f"docker exec $(docker ps --quiet --filter name=flagprov-{NAME}-) python3 -c"
    for host in lab.hosts:
        assert lab.on(host, f"{inside} 'import greeting; print(greeting.TEXT)'") == "hello\n"
        assert lab.on(host, "docker ps --all --quiet --filter label=io.flagprov.build") == ""
        assert "build-" not in lab.on(host, "ls /var/lib/flagprov/oci", check=False)

    assert lab.deploy(str(release))["changes"] == 0
    for host in lab.hosts:
        lab.on(host, "iptables -I OUTPUT ! -o lo -p tcp --syn -j REJECT")
    try:
        for host in lab.hosts:
            lab.on(host, f"systemctl restart 'flagprov@{NAME}-*'")
        ready = dict.fromkeys(lab.hosts, "ready")
        lab.until(lambda: lab.states(NAME) == ready, 60, "both serve again without any network")
    finally:
        for host in lab.hosts:
            lab.on(host, "iptables -D OUTPUT ! -o lo -p tcp --syn -j REJECT")
