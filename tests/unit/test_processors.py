"""Threads, KV cache and operators of engines on processors."""

from __future__ import annotations

from typing import Any

import pytest

from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.models.desired import Node, Replica
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Survey
from flagprov.processors import bind, cores, kv_cache_gib, operators, processor_environment, spans

RELEASE = load_release("qwen2-7b")
VARIANT = RELEASE.variants["graviton4"]
CHIP = load_chips()["graviton4"]
LARGE = 768 * 1024


def survey(*nodes: tuple[str, int]) -> Survey:
    numa = [{"cpus": cpus, "memory_mib": memory} for cpus, memory in nodes]
    return Survey(
        host="h1", arch="aarch64", os="Debian", kernel="6", cpus=192, memory_mib=2 * LARGE,
        docker_version="20.10.24", provisioned=None, devices={}, running=(), facts={"numa": numa},
    )  # fmt: skip


def derived(
    on: Survey, devices: tuple[int, ...] = (0,), chip: str = "graviton4", weights: int = 0, **serve: Any
) -> dict[str, str]:
    replica = Replica("r-0", RELEASE.name, chip, ("h1",), devices, 9010)
    variant = VARIANT.model_copy(update={"serve": {**VARIANT.serve, **serve}})
    return processor_environment(load_chips()[chip], variant, RELEASE.model, replica, on, weights)


def test_a_rank_gets_the_cores_of_its_own_node_but_one() -> None:
    host = survey(("0-95", LARGE), ("96-191", LARGE))
    assert derived(host, (1,))["VLLM_CPU_OMP_THREADS_BIND"] == "96-190"
    both = derived(host, (0, 1), tensor_parallel_size=2)
    assert both["VLLM_CPU_OMP_THREADS_BIND"] == "0-94|96-190"
    assert both["OMP_NUM_THREADS"] == "95"


def test_one_rank_over_two_nodes_has_the_cores_of_both() -> None:
    found = derived(survey(("0-3", LARGE), ("4-7", LARGE)), (0, 1))
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "0-2,4-6"
    assert found["OMP_NUM_THREADS"] == "6"


def test_the_cache_gets_what_weights_and_the_rest_of_the_host_leave() -> None:
    # 8 of 10 parts of 768 GiB, less 1.2 x 15.2 GB of weights, in steps of 16 GiB
    assert derived(survey(("0-95", LARGE)))["VLLM_CPU_KVCACHE_SPACE"] == "592"
    half = derived(survey(("0-95", LARGE)), gpu_memory_utilization=0.5)
    assert half["VLLM_CPU_KVCACHE_SPACE"] == "352"
    known = derived(survey(("0-95", LARGE)), weights=100 << 30)
    assert known["VLLM_CPU_KVCACHE_SPACE"] == "480"


def test_every_rank_has_its_part_of_the_weights() -> None:
    host = survey(("0-95", 32768), ("96-191", 65536))
    # The smaller node decides: 0.8 x 32 GiB less 1.2 x 7.6 GB
    assert derived(host, (0, 1), tensor_parallel_size=2)["VLLM_CPU_KVCACHE_SPACE"] == "16"


@pytest.mark.parametrize(
    ("memory", "weights", "share", "gib"),
    [
        (24104, 14496, 0.8, 1),  # it hardly fits: the least, and the doctor says the rest
        (8192, 14496, 0.8, 1),
        (32768, 10240, 0.8, 13),
        (0, 14496, 0.8, None),
        (32768, 0, 0.8, None),
    ],
)
def test_kv_cache(memory: int, weights: float, share: float, gib: int | None) -> None:
    assert kv_cache_gib(memory, weights, share) == gib


def test_a_little_less_memory_changes_nothing() -> None:
    assert kv_cache_gib(LARGE, 14496, 0.8) == kv_cache_gib(LARGE - 512, 14496, 0.8)


def test_nothing_is_guessed_about_nodes_that_are_not_known() -> None:
    assert derived(survey()) == {}
    assert derived(survey(("0-95", LARGE)), (1,)) == {}
    assert derived(survey(("", LARGE))) == {}


def test_other_chips_get_nothing() -> None:
    host = survey(("0-95", LARGE))
    assert derived(host, chip="nvidia-h100") == derived(host, chip="cpu-x86") == {}


def test_a_replica_over_hosts_counts_the_ranks_of_one() -> None:
    nodes = (Node("h1", "192.0.2.1", "eth0"), Node("h2", "192.0.2.2", "eth0"))
    replica = Replica("r-0", RELEASE.name, "graviton4", ("h1", "h2"), (0,), 9010, nodes)
    variant = VARIANT.model_copy(update={"serve": {**VARIANT.serve, "tensor_parallel_size": 2}, "nodes": 2})
    found = processor_environment(CHIP, variant, RELEASE.model, replica, survey(("0-63", LARGE)))
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "0-62"
    assert found["VLLM_CPU_KVCACHE_SPACE"] == "592"


def test_lists_of_cores() -> None:
    assert cores("0-2,7\n") == [0, 1, 2, 7]
    assert spans([7, 0, 1, 2]) == "0-2,7"
    assert cores("") == []
    assert bind([[0]], 1, 1) == [[0]]  # never none at all


def image(version: str | None, error: str | None) -> ImageFacts:
    return ImageFacts(digest="sha256:0", arch="arm64", python="3.12", flaggems=version, flaggems_error=error)


NO_DEVICE = "without an accelerator: RuntimeError: No device were detected"


@pytest.mark.parametrize(
    ("chip", "version", "error", "used", "said"),
    [
        ("graviton4", "5.3.0", None, "flaggems", ""),
        ("graviton4", None, None, "native", "has no FlagGems"),
        ("graviton4", "5.0.2", NO_DEVICE, "native", "No device were detected"),
        # An accelerator's image is looked into without the accelerator, so that this proves nothing.
        ("nvidia-h100", "5.0.2", NO_DEVICE, "flaggems", ""),
    ],
)
def test_flaggems_stays_on_where_the_image_can_import_it(
    chip: str, version: str | None, error: str | None, used: str, said: str
) -> None:
    kind, why = operators(load_chips()[chip], VARIANT, image(version, error))
    assert kind == used
    assert said in why
    assert bool(why) == (used == "native")


def test_an_image_that_nobody_has_looked_into_decides_nothing() -> None:
    assert operators(CHIP, VARIANT, None) == ("flaggems", "")
