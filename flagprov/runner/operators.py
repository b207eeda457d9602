"""FlagGems in every worker: the plugin's files, what it shall do, and whether the image can do it; pure."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from math import prod
from typing import Any, Literal

from flagprov.catalog.operators import exclusions_for
from flagprov.errors import ReleaseError
from flagprov.models.image import ImageFacts
from flagprov.models.operators import Exclusion
from flagprov.runner.inputs import LaunchInputs

SCHEMA_VERSION = 1
CONFIG = "operators.json"
DIRECTORY = "engine"  # in the configuration directory; on PYTHONPATH of everything that is started
PACKAGE = "flagprov_engine"
PLUGIN = "flagprov_operators"  # its name where VLLM_PLUGINS lists what may be loaded
MODULES = ("__init__.py", "hook.py", "switch.py")
NO_ACCELERATOR = "without an accelerator"  # the image probe has none, so this is no proof
RAY_PATIENCE = "RAY_CGRAPH_get_timeout"
WAYS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
METADATA = f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1\n"
ENTRY_POINTS = f"[vllm.general_plugins]\n{PLUGIN} = {PACKAGE}.hook:register\n"


def flaggems_on(launch: LaunchInputs) -> bool:
    """Whether workers are to compute with FlagGems: asked for, and possible on this chip and image."""
    return launch.variant.operators == "flaggems" and launch.env.get("USE_FLAGGEMS") == "1"


def mode(facts: ImageFacts | None) -> Literal["enable", "observe"]:
    """Who switches it on: our plugin, or the image's own vLLM, which is then watched."""
    return "observe" if facts is not None and facts.flaggems_by else "enable"


def operator_files(launch: LaunchInputs) -> dict[str, str]:
    """The plugin as a directory that Python finds it in, and its orders; none with native operators."""
    if not flaggems_on(launch):
        return {}
    _check_image(launch)
    held = exclusions_held(launch)
    orders = {
        "schema_version": SCHEMA_VERSION,
        "mode": mode(launch.facts),
        "leave_out": sorted({name for each in held for name in each.leave_out}),
        "because": [
            {"operators": list(each.leave_out), "reason": each.reason, "link": each.link} for each in held
        ],
    }
    return {
        **dict(_plugin_texts()),
        CONFIG: json.dumps(orders, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    }


def exclusions_held(launch: LaunchInputs) -> tuple[Exclusion, ...]:
    """Entries of the registry that hold for this chip, image and model."""
    version = launch.facts.flaggems if launch.facts else None
    return exclusions_for(launch.chip.name, version, launch.model)


def exclusions_unheeded(launch: LaunchInputs) -> str:
    """What a plan says of operators that should be left out, and are not: a patched vLLM asks nobody."""
    if not flaggems_on(launch) or launch.facts is None or launch.facts.flaggems_by != "vllm":
        return ""
    left_out = sorted({name for each in exclusions_held(launch) for name in each.leave_out})
    if not left_out:
        return ""
    return (
        f"operators {', '.join(left_out)} should be left out on {launch.chip.name} (catalog/operators.yaml), "
        "and are not: this image's own vLLM enables FlagGems, with a list of its own"
    )


def operator_environment(launch: LaunchInputs) -> dict[str, str]:
    """What FlagGems needs in the environment of every node."""
    # Ray's own patience is too short for kernels that are compiled at the first request.
    slow = flaggems_on(launch) and launch.replica.nodes and RAY_PATIENCE not in launch.env
    return ({RAY_PATIENCE: "60"} if slow else {}) | _told(launch)


def _told(launch: LaunchInputs) -> dict[str, str]:
    """An image that enables FlagGems itself, or whose own environment does, has to be told not to."""
    facts = launch.facts
    if facts is None or flaggems_on(launch):
        return {}
    return {"USE_FLAGGEMS": "0"} if facts.flaggems_by or "USE_FLAGGEMS" in facts.env else {}


def workers_per_node(launch: LaunchInputs) -> int | None:
    """How many workers there are to be on each host; None where a card's own command decides."""
    if launch.variant.launch.kind == "command":
        return None
    sizes = [launch.variant.serve.get(way) for way in WAYS]
    total = prod(size for size in sizes if isinstance(size, int) and size > 0)
    return max(1, total // max(1, len(launch.replica.nodes)))


def operators_expected(launch: LaunchInputs) -> dict[str, Any]:
    """What a host's status compares its proofs with."""
    on = flaggems_on(launch)
    expected: dict[str, Any] = {"asked": launch.variant.operators, "on": on}
    if on:
        expected |= {"workers": workers_per_node(launch), "by": mode(launch.facts)}
    elif launch.variant.operators == "flaggems":
        expected["reason"] = why_not(launch.facts)
    return expected


def why_not(facts: ImageFacts | None) -> str:
    """Why FlagGems is not on though the release asks for it."""
    if facts is None:
        return ""
    if not _has_flaggems(facts):
        return "the image has no FlagGems"
    said = (facts.flaggems_error or "").strip().splitlines()
    return f"FlagGems cannot be imported in the image: {said[-1][:160]}" if said else ""


def _has_flaggems(facts: ImageFacts) -> bool:
    # Its source may be there without a distribution's metadata.
    return facts.flaggems is not None or bool(facts.flaggems_enable)


def _check_image(launch: LaunchInputs) -> None:
    """Refuse at the plan what would end every worker minutes later."""
    facts = launch.facts
    if facts is None or launch.variant.launch.kind == "command":
        return
    imported = not facts.flaggems_error or facts.flaggems_error.startswith(NO_ACCELERATOR)
    if _has_flaggems(facts) and imported:
        return
    raise ReleaseError(
        f"release {launch.release} asks for FlagGems on {launch.chip.name}: {why_not(facts)} "
        f"({launch.variant.image.reference})",
        remedy="serve with the engine's native operators (--operators native), or use an image that has it",
    )


@cache
def _plugin_texts() -> tuple[tuple[str, str], ...]:
    engine = resources.files("flagprov.engine")
    texts = [(f"{DIRECTORY}/{PACKAGE}/{name}", engine.joinpath(name).read_text("utf-8")) for name in MODULES]
    info = f"{DIRECTORY}/{PLUGIN}-1.dist-info"
    return (*texts, (f"{info}/METADATA", METADATA), (f"{info}/entry_points.txt", ENTRY_POINTS))
