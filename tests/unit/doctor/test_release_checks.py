"""Checks of a release against a host: image, SDK, weights, parallelism, memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from doctor_values import ALL, answer, ascend, case, check, device, h100, path, state, subject

from flagprov.doctor.subject import Verdict
from flagprov.models.image import ImageFacts
from flagprov.models.release import Container, Image

GPU, A2, A3, ARM = "nvidia-h100", "ascend-a2", "ascend-a3", "graviton4"
LONG = (
    "registry/flagrelease-{v}-release-model_m-tree_none-gems_4.1-cx_none-python_3.12.3-torch_2.9.0-"
    "pcp_{sdk}-gpu_{code}-arc_{arch}-driver_{driver}:1"
)


def named(**parts: str) -> Image:
    usual = {"v": "nvidia", "sdk": "cuda12.2", "code": "nvidia004", "arch": "amd64", "driver": "535.183.06"}
    return Image(reference=LONG.format(**{**usual, **parts}))


def said(**more: Any) -> dict[str, Any]:
    return {"where": "registry", "arches": ["amd64"], "env": {}, "download_mib": 9000, "why": "", **more}


def arm(**more: Any) -> dict[str, Any]:
    facts = answer(devices={"cpuinfo": [device(0, "implementer 0x41 part 0xd4f", 400_000)]}, **more)
    facts["system"] = {
        **facts["system"],
        "arch": "aarch64",
        "machine": "Amazon EC2 r8g.48xlarge",
        "memory_mib": 400_000,
    }
    return facts


def test_an_image_of_the_wrong_architecture() -> None:
    found = check("image", subject(arm(image=said()), ARM, "qwen2-7b"))
    assert (found.state, found.message) == ("failed", "it is for x86_64, the machine is aarch64")
    assert state("image", subject(arm(image=said(arches=["amd64", "arm64"])), ARM, "qwen2-7b")) == "ok"
    assert state("image", subject(h100(), GPU, "qwq-32b")) == "unknown"


def with_image(facts: dict[str, Any], chip: str, release: str, image: Image, **more: Any) -> Any:
    of = subject(facts, chip, release, **more)
    assert of.serving is not None
    variant = of.serving.variant.model_copy(update={"image": image})
    return replace(of, serving=replace(of.serving, variant=variant))


def test_the_architecture_in_a_name() -> None:
    wrong = with_image(h100(), GPU, "qwq-32b", named(arch="arm64"))
    assert check("image", wrong).message == "its name says aarch64, the machine is x86_64"
    assert state("image", with_image(h100(), GPU, "qwq-32b", named())) == "ok"


def test_an_image_of_another_vendor_or_device() -> None:
    ascend_image = named(v="ascend", sdk="cann8.2rc1", code="ascend001", arch="arm64")
    assert "its name says ascend" in check("image", with_image(h100(), GPU, "qwq-32b", ascend_image)).message
    h20 = check("image", with_image(h100(), GPU, "qwq-32b", named(code="nvidia003")))
    assert h20.state == "warning"
    assert "device nvidia003" in h20.message


def test_the_a2_image_on_an_a3_host() -> None:
    found = check("image", subject(ascend("a3-idle"), A3, "qwen3-4b", variant=A2))
    assert found.state == "failed"
    assert "an image for ascend-a2" in found.message
    a3_image = Image(reference="quay.io/ascend/vllm-ascend:v0.11.0-a3")
    assert (
        "an image for ascend-a3"
        in check("image", with_image(ascend("a2-idle"), A2, "qwen3-4b", a3_image)).message
    )
    assert (
        state("image", subject(ascend("a2-idle"), A2, "qwen3-4b")) == "unknown"
    )  # its arch is not known yet


@pytest.mark.parametrize(
    ("where", "why"), [("missing", "manifest unknown"), ("unreachable", "dial tcp: i/o timeout")]
)
def test_what_the_registry_does_not_have(where: str, why: str) -> None:
    facts = ascend("a3-idle", image=said(where=where, why=why, arches=[]))
    found = check("image", subject(facts, A3, "qwen3-4b"))
    assert found.state == "failed"
    assert why in found.message
    assert "flagrelease_ascend_qwen3_4b" in found.remedy
    assert ("may dockerd reach it" in found.remedy) == (where == "unreachable")


def test_an_image_that_other_hosts_bring() -> None:
    coming = said(where="brought", why="it comes from host to host", arches=[])
    assert state("image", subject(ascend("a3-idle", image=coming), A3, "qwen3-4b")) == "ok"  # its name says
    found = check("image", subject(ascend("a2-idle", image=coming), A2, "qwen3-4b"))
    assert (found.state, found.message) == ("unknown", "architecture: it comes from host to host")


def test_what_was_found_inside_the_image_counts_most() -> None:
    inside = ImageFacts(digest="sha256:" + "0" * 64, arch="arm64", python="3.12", cuda="13.0")
    found = subject(h100(image=said()), GPU, "qwq-32b", image=inside)
    assert state("image", found) == "failed"
    assert state("sdk", found) == "failed"


@pytest.mark.parametrize(
    ("cuda", "takes", "expected"),
    [
        ("12.2", "12.2", "ok"),
        ("12.2.2", "12.4", "ok"),
        ("12.9", "12.2", "warning"),
        ("13.0", "12.2", "failed"),
        ("11.8", "12.4", "ok"),
        ("12.2", None, "unknown"),
    ],
)
def test_cuda(cuda: str, takes: str | None, expected: str) -> None:
    facts = h100(image=said(env={"CUDA_VERSION": cuda}))
    facts["nvidia"]["report"]["cuda"] = takes
    assert state("sdk", subject(facts, GPU, "qwq-32b")) == expected


def test_cuda_in_a_name() -> None:
    found = check("sdk", with_image(h100(), GPU, "qwq-32b", named(sdk="cuda13.1")))
    assert (found.state, found.message) == (
        "failed",
        "the image has CUDA 13.1, the driver takes 12.4 at most",
    )
    assert state("sdk", subject(h100(), GPU, "qwq-32b")) == "unknown"


@pytest.mark.parametrize(
    ("driver", "cann", "expected"),
    [
        ("25.2.0", "cann8.2rc1.alpha002", "ok"),
        ("25.0.rc1", "cann8.2.rc1", "ok"),
        ("24.1.rc1", "cann8.2.rc1", "failed"),
        ("25.0.rc1", "cann8.5.0", "ok"),
        ("24.1.0", "cann8.5.0", "failed"),
        ("25.5.0", "cann9.0", "unknown"),
    ],
)
def test_cann(driver: str, cann: str, expected: str) -> None:
    table = {**case("npu_smi/a3-idle"), "version": driver}
    facts = ascend("a3-idle", ascend={"driver": driver, "table": table})
    image = named(v="ascend", sdk=cann, code="ascend001", arch="arm64", driver="25.2.0")
    assert state("sdk", with_image(facts, A3, "qwen3-4b", image)) == expected


def test_the_hosts_own_cann() -> None:
    def found(cann: str | None) -> Verdict | None:
        made = subject(ascend("a3-idle", ascend={"cann": cann}), A3, "qwen3-4b")
        return ALL["sdk"](replace(made, host=replace(made.host, cann="host")))

    told = [found(cann) for cann in ("8.2.RC1", "9.0.0", None)]
    assert [verdict and verdict.state for verdict in told] == ["ok", "unknown", "failed"]
    assert told[2] and "flagprov_cann" in told[2].remedy


def test_the_driver_in_a_name_is_a_hint() -> None:
    hint = check("driver-hint", subject(ascend("a3-idle"), A3, "qwen3-4b"))
    assert (hint.state, hint.message) == ("warning", "built beside driver 25.2.0, here is 25.0.rc1")
    assert ALL["driver-hint"](subject(h100(), GPU, "qwq-32b")) is None


def test_weights_under_a_mount() -> None:
    assert state("weights", subject(h100(), GPU, "qwq-32b")) == "ok"
    bare = check("weights", subject(h100(), GPU, "qwq-32b", container=Container()))
    assert bare.message == "/nfs/QwQ-32B lies under none of the container's mounts"
    missing = h100(paths=[path("/nfs"), path("/nfs/QwQ-32B", exists=False)])
    assert state("weights", subject(missing, GPU, "qwq-32b")) == "warning"


def test_parallel() -> None:
    assert state("parallel", subject(h100(), GPU, "qwq-32b")) == "ok"
    heads: dict[str, Any] = {
        "serve": {"model": "/nfs/RoboBrain2.0-7B-FP8Dynamic", "tensor_parallel_size": 8},
        "devices": 8,
    }
    found = check("parallel", subject(h100(), GPU, "robobrain2-7b-fp8", **heads))
    assert found.message == "8 does not divide the model's 28 attention heads"
    full = check("parallel", subject(h100(), GPU, "qwq-32b", refusal="8 devices are needed, 7 of 8 are free"))
    assert (full.state, full.message) == ("failed", "8 devices are needed, 7 of 8 are free")


def test_memory() -> None:
    assert check("memory", subject(h100(), GPU, "qwq-32b")).message == "about 73 GiB of 637 GiB"
    single: dict[str, Any] = {"devices": 1, "serve": {"model": "/nfs/QwQ-32B", "tensor_parallel_size": 1}}
    small = h100()
    for each in small["devices"]["nvidia-smi"]:
        each["memory_mib"] = 40960
    found = check("memory", subject(small, GPU, "qwq-32b", **single))
    assert (found.state, found.message) == ("failed", "the model needs about 73 GiB, there are 40 GiB")
    assert "use 2 devices or more" in found.remedy
    assert state("memory", subject(arm(), ARM, "qwen2-7b")) == "ok"
    tiny = arm()
    tiny["system"]["memory_mib"] = 8192
    assert state("memory", subject(tiny, ARM, "qwen2-7b")) == "failed"
    assert state("memory", subject(answer(), "cpu-x86", "qwen3-tiny")) == "unknown"


def test_eager() -> None:
    assert state("eager", subject(h100(), GPU, "qwq-32b")) == "ok"
    serve = {"model": "/nfs/QwQ-32B", "enforce_eager": False}
    assert check("eager", subject(h100(), GPU, "qwq-32b", serve=serve)).remedy.startswith(
        "--set serve.enforce_eager"
    )
    assert ALL["eager"](subject(h100(), GPU, "qwen2.5-vl-32b")) is None  # its operators are native
