"""FlagGems in the workers of a real vLLM, started by the real FlagScale: they alone import and prove it.

There is no accelerator here: this FlagGems has one operator, which the real torch takes for the CPU.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from flagprov.catalog import load_release, variant_for
from flagprov.chips import load_chips
from flagprov.models.desired import Replica
from flagprov.models.image import ImageFacts
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.render import render

from .conftest import Lab

pytestmark = pytest.mark.vllm
FOLDER, NAME, PORT = "/root/flaggems", "flaggems-alone", 9077
GEMS = '''
"""One operator for the CPU; says which processes import it, and stays mapped in them as a context does."""
import mmap
import os
import torch

device = open("/run/flagprov/device", "a+b")
device.truncate(mmap.PAGESIZE)
context = mmap.mmap(device.fileno(), mmap.PAGESIZE)

with open("/run/flagprov/imported", "a") as file:
    file.write("%d\\n" % os.getpid())

class Registrar:
    def __init__(self):
        self.keys = []
    def get_all_keys(self):
        return self.keys

current_work_registrar = None
library = torch.library.Library("aten", "IMPL")

def sigmoid(x):
    return 1 / (1 + torch.exp(-x))

def softmax(*_):
    raise RuntimeError("it should be left out")

def enable(lib=library, unused=None):
    global current_work_registrar
    current_work_registrar = Registrar()
    for key, function in (("sigmoid", sigmoid), ("_softmax", softmax)):
        if function.__name__ not in (unused or ()):
            lib.impl(key, function, "CPU")
            current_work_registrar.keys.append(key)
'''
METADATA = "Metadata-Version: 2.1\nName: flag_gems\nVersion: 5.0.2\n"


def configuration() -> dict[str, str]:
    """The tiny release with FlagGems; lines before its start spoil both path and allow-list."""
    release = load_release("qwen3-tiny")
    variant = variant_for(release, "cpu-x86")
    before = ("export PYTHONPATH=/fake", "export VLLM_PLUGINS=nobody")
    launch = variant.launch.model_copy(update={"before_start": before})
    serve = {**variant.serve, "port": PORT, "distributed_executor_backend": "mp"}
    variant = variant.model_copy(update={"operators": "flaggems", "launch": launch, "serve": serve})
    image = ImageFacts(
        "sha256:" + "0" * 64, "x86_64", "3.11", vllm="0.32.0", flagscale="0.8.0",
        flagscale_deploy="experiment.runner.deploy", flaggems="5.0.2", flaggems_enable=("unused",),
    )  # fmt: skip
    replica = Replica("alone-0", "alone", "cpu-x86", ("lab1",), (0,), PORT)
    inputs = LaunchInputs(
        "alone", replica, variant, load_chips()["cpu-x86"], release.weights.path, facts=image,
        env={**variant.env, "USE_FLAGGEMS": "1"}, stop_grace_s=20,
    )  # fmt: skip
    return render(dataclasses.replace(inputs, model=release.model.name))


def packed(files: Mapping[str, str]) -> str:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return base64.b64encode(held.getvalue()).decode()


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Lab]:
    """The engine image is on the host already, or a deploy brings it."""
    lab.teardown()
    lab.deploy("qwen3-tiny", "--limit", "lab1", "--set", "deadline_s=600")
    image = lab.on("lab1", "docker inspect -f '{{.Image}}' flagprov-qwen3-tiny-0").strip()
    lab.flagprov("stop", lab.inventory, "--yes")
    files = {f"conf/{name}": text for name, text in configuration().items()}
    files |= {"fake/flag_gems/__init__.py": GEMS, "fake/flag_gems-5.0.2.dist-info/METADATA": METADATA}
    lab.on("lab1", f"mkdir -p {FOLDER}/run && echo {packed(files)} | base64 -d | tar -xz -C {FOLDER}")
    mounts = (
        "/srv/models:/models:ro",
        f"{FOLDER}/conf:/conf:ro",
        f"{FOLDER}/fake:/fake:ro",
        f"{FOLDER}/run:/run/flagprov",
    )
    volumes = " ".join(f"-v {mount}" for mount in mounts)
    lab.on("lab1", f"docker run -d --init --name {NAME} --network host --shm-size 1g {volumes} "
                   f"--entrypoint python3 {image} /conf/launcher.py")  # fmt: skip
    try:
        lab.until(lambda: state(lab).get("phase") == "running", 600, "the engine is up")
        yield lab
    finally:
        lab.on("lab1", f"docker rm -f {NAME}; rm -rf {FOLDER}")
        lab.teardown()


def state(lab: Lab) -> Any:
    return json.loads(lab.on("lab1", f"cat {FOLDER}/run/state.json", check=False) or "{}")


def test_the_worker_alone_imports_flaggems_and_proves_it(running: Lab) -> None:
    (record,) = json.loads(
        "[" + running.on("lab1", f"cat {FOLDER}/run/operators/*.json").replace("}\n{", "},{") + "]"
    )
    imported = [int(line) for line in running.on("lab1", f"cat {FOLDER}/run/imported").split()]
    names = {each["pid"]: each["name"] for each in state(running)["processes"]}
    assert imported == [record["pid"]]
    assert names[record["pid"]].startswith("VLLM::Worker")
    assert {"API server", "VLLM::EngineCore"} <= {name.split("_")[0] for name in names.values()}
    assert (record["flaggems"], record["by"], record["version"]) == ("on", "plugin", "5.0.2")
    assert record["operators"] == ["sigmoid"]
    assert "softmax" in record["left_out"]


def test_no_other_process_of_the_engine_has_a_context(running: Lab) -> None:
    names = {each["pid"]: each["name"] for each in state(running)["processes"]}
    find = f"docker exec {NAME} sh -c 'grep -ls flagprov/device /proc/[0-9]*/maps'"
    found = {int(path.split("/")[2]) for path in running.on("lab1", find, check=False).split()}
    assert [name.split("_")[0] for pid, name in names.items() if pid in found] == ["VLLM::Worker"]


def test_it_answers_with_that_operator(running: Lab) -> None:
    body = json.dumps({"model": "qwen3-tiny", "prompt": "Say hello.", "max_tokens": 4, "temperature": 0})
    ask = (
        "import sys, urllib.request as u; print(u.urlopen(u.Request("
        f"'http://127.0.0.1:{PORT}/v1/completions', sys.argv[1].encode(), "
        "{'Content-Type': 'application/json'})).read().decode())"
    )
    answer = json.loads(running.on("lab1", f"python3 -c \"{ask}\" '{body}'"))
    assert answer["usage"]["completion_tokens"] == 4
