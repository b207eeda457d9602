"""Trying NPUs from inside an image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.host import docker
from flagprov.host.facts import accelerators, npu_probe
from flagprov.host.shell import Result

IMAGE = {
    "reference": "r/x:1",
    "digests": [],
    "nodes": ["/dev/davinci{index}", "/dev/davinci_manager"],
    "mounts": [["/proc/self", "/driver"], ["/is/not/there", "/other"]],
    "source": ["/usr/local/Ascend/ascend-toolkit/set_env.sh"],
}
DEVICES: dict[str, list[dict[str, Any]]] = {
    "npu-smi": [{"index": i, "processes": ["python (pid 4)"] if i == 1 else []} for i in range(3)]
}


class Torch:
    """Device 1 of the container is broken, and device 2 computes wrongly."""

    float32 = "float32"

    def ones(self, size: int, dtype: str, device: str) -> Any:
        if device == "npu:1":
            raise RuntimeError("aclrtSetDevice failed,\n  error code is 507033")
        total = 5 if device == "npu:2" else 2 * size
        answer = SimpleNamespace(sum=lambda: SimpleNamespace(item=lambda: total))
        return type("Tensor", (), {"__add__": lambda self, other: answer})()


def test_each_device_is_computed_on() -> None:
    found = npu_probe.trials(Torch(), [4, 5, 6])
    assert [entry["index"] for entry in found] == [4, 5, 6]
    assert found[0]["error"] is None
    assert found[1]["error"] == "aclrtSetDevice failed, error code is 507033"
    assert "wrong result" in found[2]["error"]


@pytest.mark.parametrize(
    ("image", "known", "why"),
    [(None, None, "only an image with torch_npu"), (IMAGE, None, "is not here yet")],
)
def test_without_an_image_it_is_unknown(
    monkeypatch: pytest.MonkeyPatch, image: Any, known: str | None, why: str
) -> None:
    monkeypatch.setattr(docker, "image_id", lambda *_: known)
    found = accelerators.use({"npu-smi": [0, 1]}, DEVICES, image=image)
    assert [(entry["index"], entry["tried"]) for entry in found] == [(1, False), (0, False)]
    assert why in found[1]["why"]


def test_emulated_devices_are_not_tried() -> None:
    (found,) = accelerators.use({"npu-smi": [0]}, DEVICES, emulated=True, image=IMAGE)
    assert (found["tried"], found["why"]) == (False, "emulated")


def test_the_image_tries_the_devices_that_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], timeout: float = 0) -> Result:
        asked.append(argv)
        return Result(0, 'a warning of CANN\n[{"index": 0, "tried": true, "error": null, "why": ""}]\n', "")

    monkeypatch.setattr(docker, "image_id", lambda *_: "sha256:1")
    monkeypatch.setattr(accelerators, "run", run)
    rights = {"cap_drop": ["ALL"], "cap_add": ["SYS_NICE", "DAC_OVERRIDE"], "security_opt": []}
    found = accelerators.use({"npu-smi": [0, 1]}, DEVICES, image={**IMAGE, **rights})
    assert found[-1] == {"index": 0, "tried": True, "error": None, "why": "", "tool": "npu-smi"}
    (argv,) = asked
    assert argv[argv.index("--device") + 1] == "/dev/davinci0"
    assert "/dev/davinci1" not in argv
    assert [word for word in argv if word.startswith("--cap")] == ["--cap-drop", "--cap-add", "--cap-add"]
    assert "DAC_OVERRIDE" in argv
    assert "type=bind,source=/proc/self,target=/driver,readonly" in argv
    assert not any("/is/not/there" in word for word in argv)
    assert argv[-2:] == ["probe", "0"]


def test_an_image_that_fails_is_an_error_of_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "image_id", lambda *_: "sha256:1")
    failing = Result(125, "", "docker: error gathering device information: /dev/davinci0")
    monkeypatch.setattr(accelerators, "run", lambda *_, **__: failing)
    (found,) = accelerators.use({"npu-smi": [0]}, DEVICES, image=IMAGE)
    assert "error gathering device information" in found["error"]
