"""What an engine on processors gets of its host: cores and KV cache by NUMA node, and its operators; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flagprov.models.chip import Chip, Processor
from flagprov.models.desired import Replica
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Survey
from flagprov.models.release import Model, Operators, Variant

BYTES = {"float32": 4, "fp32": 4, "bfloat16": 2, "bf16": 2, "float16": 2, "fp16": 2, "half": 2,
         "fp8": 1, "int8": 1, "w8a8": 1, "fp4": 0.5, "int4": 0.5}  # fmt: skip
ROOM = 1.2  # weights and what the engine needs beside them
THREADS, BIND, CACHE = "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE"
THREAD_VARIABLES = frozenset((THREADS, BIND))


def processor_environment(
    chip: Chip, variant: Variant, model: Model, replica: Replica, survey: Survey, weights_bytes: int = 0
) -> dict[str, str]:
    """Threads by NUMA node and the KV cache's size; nothing for accelerators, or where nodes are not known.

    `weights_bytes`: of the weights' files, where they are known; else the model says how large it is.
    """
    if chip.processor is None:
        return {}
    nodes = _nodes(replica, survey)
    here, everywhere = _ranks(variant, replica)
    env: dict[str, str] = {}
    if nodes and len(nodes) % here == 0:
        bound = bind([cores(str(node["cpus"])) for node in nodes], here, chip.processor.reserved_cores)
        env = {THREADS: str(min(len(rank) for rank in bound)), BIND: "|".join(spans(rank) for rank in bound)}
    weights = weights_bytes or (model_bytes(variant, model) or 0)
    sizes = [int(node["memory_mib"]) for node in nodes]
    space = kv_cache_gib(
        min(sizes, default=0), weights / everywhere / (1 << 20), share(variant, chip.processor)
    )
    if space:
        env[CACHE] = str(space)
    return env


def kv_cache_gib(memory_mib: int, weights_mib: float, share: float) -> int | None:
    """Each rank's KV cache in a NUMA node of its own; None where nothing can be said.

    What `share` leaves of the node is for the page cache, the API server and the system. Other replicas have
    other nodes.
    """
    if not memory_mib or not weights_mib:
        return None
    gib = int((memory_mib * share - weights_mib * ROOM) // 1024)
    # In steps, for a kernel that reports a little less memory after an update is no reason for a restart.
    step = 1 if gib < 16 else 4 if gib < 128 else 16
    return max(1, gib - gib % step)


def share(variant: Variant, processor: Processor) -> float:
    """Of a node's memory, what the engine may have: vLLM takes gpu_memory_utilization for that here too."""
    asked = variant.serve.get("gpu_memory_utilization")
    return float(asked) if isinstance(asked, int | float) and 0 < asked <= 1 else processor.memory_share


def need_mib(
    variant: Variant, model: Model, environment: Mapping[str, str], weights_bytes: int
) -> int | None:
    """Memory that an engine takes with its weights and its KV cache; None where that is not known."""
    weights = weights_bytes or model_bytes(variant, model)
    cache = environment.get(CACHE, "")
    if not weights or not cache.isdecimal():
        return None
    return int(weights * ROOM / (1 << 20)) + int(cache) * 1024


def bind(nodes: Sequence[Sequence[int]], ranks: int, reserved: int) -> list[list[int]]:
    """The cores of each rank; of every node the last ones are left to everything else, if it has more."""
    each = len(nodes) // ranks
    kept = [list(node[: max(1, len(node) - reserved)]) for node in nodes]
    return [[core for node in kept[at * each : (at + 1) * each] for core in node] for at in range(ranks)]


def cores(text: str) -> list[int]:
    """`0-2,7` as the kernel lists processors."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def spans(found: Sequence[int]) -> str:
    """The opposite of `cores`."""
    parts: list[list[int]] = []
    for core in sorted(found):
        if parts and core == parts[-1][1] + 1:
            parts[-1][1] = core
        else:
            parts.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def model_bytes(variant: Variant, model: Model) -> float | None:
    """Size of the weights, from the number of parameters; None where the release does not say."""
    dtype = str(variant.serve.get("dtype") or model.dtype).lower()
    size = BYTES.get(model.dtype.lower() if dtype in ("auto", "") else dtype)
    return None if model.parameters is None or size is None else model.parameters * 1e9 * size


def operators(chip: Chip, variant: Variant, facts: ImageFacts | None) -> tuple[Operators, str]:
    """What the engine computes with, and why where it is not what the release asks for.

    A processor has no device that the image was looked into without: what cannot be imported there never can.
    """
    if variant.operators == "native" or chip.resource_type != "cpu" or facts is None:
        return variant.operators, ""
    if facts.flaggems is None and not facts.flaggems_enable:
        return "native", "the image has no FlagGems"
    if facts.flaggems_error:
        last = facts.flaggems_error.strip().splitlines()[-1]
        return "native", f"FlagGems cannot be imported in the image ({last[:160]})"
    return "flaggems", ""


def _nodes(replica: Replica, survey: Survey) -> list[Mapping[str, Any]]:
    """The replica's NUMA nodes; none if one of them is not known."""
    known = survey.facts.get("numa") or []
    found = [known[index] for index in replica.devices if index < len(known)]
    whole = len(found) == len(replica.devices) and all(node["cpus"] for node in found)
    return found if whole else []


def _ranks(variant: Variant, replica: Replica) -> tuple[int, int]:
    """Ranks on one host, and on all of the replica's."""
    total = 1
    for way in ("tensor_parallel_size", "pipeline_parallel_size"):
        size = variant.serve.get(way)
        total *= size if isinstance(size, int) and size > 0 else 1
    return max(1, total // max(1, len(replica.nodes))), total
