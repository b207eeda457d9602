"""Engine arguments in the form that the vLLM of one image takes.

FlagScale flattens `engine_args`: underscore to dash, true to a bare option, false dropped, a mapping's keys
raised to options of their own. So mappings and false values are rewritten before it sees them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from flagprov.cluster import rendezvous_port
from flagprov.errors import ReleaseError, SettingsError
from flagprov.models.image import ImageFacts
from flagprov.models.release import ServeValue, Variant
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.spanning import effective_kind

Argument = str | int | float | bool | list[Any]

# Not options of their own: the model is the positional argument, host and port are placed.
PLACED = ("model", "port")
PAIRS = re.compile(r"^\s*[\w.-]+=[^,=]+(,\s*[\w.-]+=[^,=]+)*\s*$")


def engine_arguments(launch: LaunchInputs) -> dict[str, Argument]:
    """Engine arguments in order, checked against the image: what FlagScale's `engine_args` holds."""
    placed: dict[str, Argument] = {"model": launch.model_path, "host": "0.0.0.0", "port": launch.replica.port}
    arguments: dict[str, Argument] = {}
    check_serve(launch.variant, launch.facts, launch.release, launch.replica.chip, launch.settings_keys)
    for name, value in launch.variant.serve.items():
        if name in PLACED or value is None:
            continue
        adapted = _adapt(name, value, launch)
        if adapted is not None:
            arguments[adapted[0]] = adapted[1]
    drain = drain_seconds(launch)
    if drain and "shutdown_timeout" not in arguments and _accepts(launch.facts, "shutdown_timeout"):
        arguments["shutdown_timeout"] = drain
    # Sorted, so that the order in which a release lists them is no change.
    return placed | dict(sorted(arguments.items())) | _rank_arguments(launch)


def _rank_arguments(launch: LaunchInputs) -> dict[str, Argument]:
    """vLLM's own way over several hosts: one front on the head, the others without."""
    nodes = launch.replica.nodes
    if not nodes:
        return {}
    if effective_kind(launch) != "nodes":
        # Newer vLLM does not look for Ray by itself; on processors it refuses it.
        ray = launch.chip.resource_type != "cpu"
        return {"distributed_executor_backend": "ray"} if ray else {}
    if _knows(launch.facts) and not _accepts(launch.facts, "nnodes"):
        assert launch.facts is not None
        raise ReleaseError(
            f"vLLM {launch.facts.vllm or '(version unknown)'} in image {launch.variant.image.reference} "
            f"has no --nnodes: it cannot span {len(nodes)} hosts by itself",
            remedy="set nodes to 1, or use an image with a newer vLLM",
        )
    arguments: dict[str, Argument] = {
        "distributed_executor_backend": "mp",
        "nnodes": len(nodes),
        "node_rank": launch.rank,
        "master_addr": nodes[0].address,
        "master_port": rendezvous_port(launch.replica.port),
    }
    return arguments | ({"headless": True} if launch.rank else {})


def drain_seconds(launch: LaunchInputs) -> int:
    """What running requests get to finish; the rest of the grace is for the processes to end."""
    return max(1, launch.stop_grace_s * 3 // 4)


def drain_mode(launch: LaunchInputs) -> str:
    """`engine` where vLLM drains at SIGTERM itself, else `outside`: the launcher waits before it sends it."""
    return "engine" if _accepts(launch.facts, "shutdown_timeout") else "outside"


def command_line(arguments: Mapping[str, Argument]) -> list[str]:
    """`vllm serve` with the same arguments, flattened as FlagScale would."""
    words = ["vllm", "serve", str(arguments["model"])]
    for key, value in arguments.items():
        if key == "model" or value is False:
            continue
        words.append("--" + key.replace("_", "-"))
        if isinstance(value, list):
            words.extend(str(item) for item in value)
        elif value is not True:
            words.append(str(value))
    return words


def _adapt(name: str, value: ServeValue, launch: LaunchInputs) -> tuple[str, Argument] | None:
    """The argument as this image takes it; None where it is to be left out."""
    facts = launch.facts
    if value is False:
        # Dropping `false` leaves vLLM's default, which is not always off.
        return ("no_" + name, True) if _accepts(facts, "no_" + name) else None
    if isinstance(value, dict):
        if name == "limit_mm_per_prompt" and not takes_json_limits(facts):
            return name, ",".join(f"{kind}={count}" for kind, count in value.items())
        return name, json.dumps(value, separators=(",", ":"))
    if name == "limit_mm_per_prompt" and isinstance(value, str) and PAIRS.match(value):
        return name, _json_limits(value) if takes_json_limits(facts) else value
    return name, value  # type: ignore[return-value]


def _json_limits(pairs: str) -> str:
    limits = dict(pair.strip().split("=", 1) for pair in pairs.split(","))
    return json.dumps({kind: int(count) for kind, count in limits.items()}, separators=(",", ":"))


def takes_json_limits(facts: ImageFacts | None) -> bool:
    """Whether `--limit-mm-per-prompt` is JSON, not `image=18`; JSON where nothing is known."""
    version = vllm_version(facts)
    return version is None or version >= (0, 9)


def vllm_version(facts: ImageFacts | None) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", facts.vllm) if facts and facts.vllm else None
    return (int(match[1]), int(match[2])) if match else None


def _knows(facts: ImageFacts | None) -> bool:
    return facts is not None and bool(facts.options)


def _accepts(facts: ImageFacts | None, name: str) -> bool:
    return facts is not None and name.replace("_", "-") in facts.options


def check_serve(
    variant: Variant, facts: ImageFacts | None, release: str, chip: str, settings_keys: Collection[str]
) -> None:
    """Refuse what the image's vLLM would refuse minutes later, inside the container.

    A card's own command may have keys of its own there, and is not asked.
    """
    if facts is None or not facts.options or variant.launch.kind == "command":
        return
    for name, value in variant.serve.items():
        known = _accepts(facts, name.split(".")[0]) or (value is False and _accepts(facts, "no_" + name))
        if known or name in PLACED or value is None:
            continue
        near = difflib.get_close_matches(name.split(".")[0].replace("_", "-"), facts.options, 3)
        nearest = f"; nearest: {', '.join(word.replace('-', '_') for word in near)}" if near else ""
        message = (
            f"vLLM {facts.vllm or '(version unknown)'} in image {variant.image.reference} "
            f"does not accept serve.{name}{nearest}"
        )
        if name in settings_keys:
            raise SettingsError(message, remedy=f"take serve.{name} out of --set or flagprov_settings")
        raise ReleaseError(
            message,
            remedy=f"remove serve.{name} from release {release} for chip {chip}, "
            "or set it to null in flagprov_settings",
        )
