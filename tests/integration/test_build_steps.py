"""Build steps by a real docker, pip and git: what comes of them is an image like any other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pip
import pytest

from flagprov.distribute import sources
from flagprov.distribute.built import derived
from flagprov.distribute.images import FromRegistry
from flagprov.distribute.layouts import lying, put_layout, read_layout
from flagprov.distribute.registry import MANIFESTS, sha256
from flagprov.host import build, docker, oci, pull
from flagprov.host.wire import Blocked
from tests.integration import test_images

program, upstream = test_images.program, test_images.upstream
# A package that builds itself, so that nothing else has to be in the image.
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """
import os, zipfile

def build_wheel(directory, settings=None, metadata=None):
    info = "greeting-2.0.dist-info"
    files = {
        "greeting/__init__.py": "TEXT = 'hello'\\n",
        info + "/METADATA": "Metadata-Version: 2.1\\nName: greeting\\nVersion: 2.0\\n",
        info + "/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[info + "/RECORD"] = "".join("%s,,\\n" % name for name in [*files, info + "/RECORD"])
    name = "greeting-2.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return name
"""
OLDER = {
    "greeting/__init__.py": "TEXT = 'old'\n",
    "greeting/only_old.py": "",
    "greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
    "greeting-1.0.dist-info/RECORD": "greeting/__init__.py,,\ngreeting/only_old.py,,\n"
    "greeting-1.0.dist-info/METADATA,,\ngreeting-1.0.dist-info/RECORD,,\n",
}


def python_layer(folder: Path) -> Path:
    """This machine's python with pip, and an older version of the package, as a layer."""
    root = folder / "root"
    executable = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    linked = subprocess.run(["ldd", executable], check=True, capture_output=True, text=True).stdout
    needed = {Path(word) for word in linked.split() if word.startswith("/")}
    for extension in (library / "lib-dynload").glob("*.so"):
        said = subprocess.run(["ldd", extension], capture_output=True, text=True, check=False).stdout
        needed |= {Path(word) for word in said.split() if word.startswith("/") and Path(word).is_file()}
    for path in (executable, *needed):
        target = root / str(path).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    unwanted = shutil.ignore_patterns("test", "tests", "idlelib", "*-packages", "__pycache__", "config-*")
    shutil.copytree(library, root / str(library).lstrip("/"), ignore=unwanted, symlinks=True)
    asked = [executable, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    packages = root / said.strip().lstrip("/")
    shutil.copytree(Path(pip.__file__).parent, packages / "pip")
    for name, text in OLDER.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/python3").unlink(missing_ok=True)
    (root / "usr/bin/python3").symlink_to(executable)
    file = folder / "layer.tar"
    with tarfile.open(file, "w") as archive:
        archive.add(root, ".")
    return file


@pytest.fixture
def base(upstream: test_images.Server, tmp_path: Path) -> Iterator[str]:
    """The name of an image with a python, in its registry and pulled."""
    layer = python_layer(tmp_path).read_bytes()
    kinds = ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar")
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin", "LANG=C.UTF-8"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
            "history": [{"created_by": "the vendor"}],
        }
    ).encode()
    parts = [
        {"mediaType": kind, "digest": sha256(blob), "size": len(blob)}
        for kind, blob in zip(kinds, (config, layer), strict=True)
    ]
    manifest = {"schemaVersion": 2, "mediaType": MANIFESTS[0], "config": parts[0], "layers": parts[1:]}
    with upstream.open() as target:
        for blob in (config, layer):
            target.put_blob(sha256(blob), len(blob), [blob])
        target.put_manifest("base", json.dumps(manifest).encode(), MANIFESTS[0])
    reference = f"{upstream.host}/{test_images.NAME}:base"
    pull.pull({"reference": reference, "digests": []})
    yield reference
    subprocess.run(["docker", "rmi", "--force", reference], check=False, capture_output=True)


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], dict[str, Any]]:
    """A build of that name from a base, its only step a commit of a repository."""
    monkeypatch.setattr(build, "ROOT", str(tmp_path / "oci"))
    repository = tmp_path / "greeting"
    repository.mkdir()
    (repository / "pyproject.toml").write_text(PROJECT)
    (repository / "backend.py").write_text(BACKEND)
    for words in ("init --quiet --initial-branch=main", "add .", "commit --quiet --message=first"):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", "-C", repository, *identity, *words.split()], check=True)
    url = f"file://{repository}"
    commit = sources.resolve(url, "main")

    def made(name: str, reference: str, python: str = "python3") -> dict[str, Any]:
        file = sources.archive(url, commit, tmp_path / "oci" / f"build-{name}" / "sources")
        words = {"words": "greeting", "python": python, "archive": file.name, "directory": "", "version": ""}
        return {"name": name, "reference": reference, "digests": [], "steps": [words]}

    return made


def test_an_image_is_made_of_another_and_of_steps(
    base: str,
    step: Callable[..., dict[str, Any]],
    upstream: test_images.Server,
    tmp_path: Path,
) -> None:
    mark = uuid.uuid4().hex[:8]
    found = build.build(step(f"{mark}-one", base))
    assert found == build.build(step(f"{mark}-two", base))  # the same steps, the same bytes
    layer = Path(build.ROOT) / f"build-{mark}-one" / "layer.tar"
    with upstream.open() as registry:
        source = FromRegistry(registry, base)
        data, kind = source.parts(["amd64"]).manifests[0]
        configuration = b"".join(source.blob(json.loads(data)["config"]["digest"]))
    config, manifest = derived(configuration, data, found["digest"], found["size"], ["greeting"])
    name = f"localhost/flagprov/test:{mark}"
    put_layout(tmp_path / "image" / "part", name, manifest, kind, config, layer, found["digest"])
    layout = lying(read_layout(tmp_path / "image" / "part"))
    assert len(layout.blobs) == 3  # what lies beneath stays where it is
    spec = {"path": str(layout.root.parent), "reference": name, "manifest": layout.manifest, "digests": []}
    try:
        assert oci.load(spec)["id"] == sha256(config)
        assert docker.image_id(name, []) == sha256(config)
        program = (
            "import greeting, importlib.util as u; print(greeting.TEXT, u.find_spec('greeting.only_old'))"
        )
        argv = ["docker", "run", "--rm", "--network", "none", name, "python3", "-c", program]
        said = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert said.stdout == "hello None\n", said.stderr
        history = subprocess.run(
            ["docker", "history", "--no-trunc", name], capture_output=True, text=True, check=True
        )
        assert "greeting" in history.stdout
    finally:
        subprocess.run(["docker", "rmi", "--force", name], check=False, capture_output=True)
    listed = ["docker", "ps", "--all", "--quiet", "--filter", "label=io.flagprov.build"]
    assert subprocess.run(listed, capture_output=True, text=True, check=True).stdout == ""


def test_a_step_that_fails_leaves_nothing_and_says_why(
    base: str, step: Callable[..., dict[str, Any]]
) -> None:
    name = uuid.uuid4().hex[:8]
    with pytest.raises(Blocked, match=r"step 1 of 1, greeting: .*/nowhere/python3") as caught:
        build.build(step(name, base, "/nowhere/python3"))
    assert "`python` name the Python" in caught.value.remedy
    package = {"words": "a package", "python": "python3", "pip": "flagprov==0.0.0.dev0"}
    with pytest.raises(Blocked, match="step 1 of 1, a package"):
        build.build({**step(name, base), "steps": [package]})
    assert not (Path(build.ROOT) / f"build-{name}" / "layer.tar").exists()
