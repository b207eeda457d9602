"""Whether a variant can work at all: what it says of itself, its chip and its model."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import PurePosixPath

from flagprov.documents.check import nearest
from flagprov.models.chip import Chip
from flagprov.models.release import Model, Release, Variant

Misfit = tuple[tuple[str, ...], str]  # key below the variant, what is wrong with it

_WAYS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def misfits(release: Release, name: str, variant: Variant, chips: Mapping[str, Chip]) -> list[Misfit]:
    """Everything about the variant for chip `name` that can never work."""
    chip = chips.get(name)
    if chip is None:
        return [((), "no chip is called so" + nearest(name, chips))]
    return [
        *_chip(chip, variant),
        *_way_in(release, variant),
        *_weights(release, variant),
        *parallel(variant, release.model),
    ]


def parallel(variant: Variant, model: Model) -> list[Misfit]:
    """The ways of parallelism against devices and attention heads."""
    sizes = {way: size for way in _WAYS if isinstance(size := variant.serve.get(way), int)}
    wrong: list[Misfit] = []
    needed, there = prod(sizes.values()), variant.devices * variant.nodes
    if needed > there:
        asked = " x ".join(f"{way} {size}" for way, size in sizes.items() if size > 1)
        wrong.append((("devices",), f"{asked} needs {needed} devices, and the replica has {there}"))
    tensor, heads = sizes.get("tensor_parallel_size", 1), model.attention_heads
    if heads and tensor and heads % tensor:
        key = ("serve", "tensor_parallel_size")
        wrong.append((key, f"{tensor} does not divide the model's {heads} attention heads"))
    return wrong


def _chip(chip: Chip, variant: Variant) -> list[Misfit]:
    wrong: list[Misfit] = [
        (("container", option), f"a host of chip {chip.name} cannot take this option")
        for option in chip.forbidden_options
        if getattr(variant.container, option, None)
    ]
    if chip.native_only and variant.operators == "flaggems":
        wrong.append((("operators",), f"FlagGems does not run on chip {chip.name}: native is possible"))
    most = max(chip.device_counts, default=variant.devices)
    if variant.devices > most:
        wrong.append((("devices",), f"a host of chip {chip.name} has at most {most}"))
    return wrong


def _way_in(release: Release, variant: Variant) -> list[Misfit]:
    readiness = variant.readiness or release.readiness
    if variant.container.network == "host" or readiness.kind == "command":
        return []
    why = (
        "nobody publishes a port of a bridge, so that no request gets in: host, or readiness of kind command"
    )
    return [(("container", "network"), why)]


def _weights(release: Release, variant: Variant) -> list[Misfit]:
    """The engine has to find the weights where they are brought to."""
    weights = PurePosixPath(release.weights.path)
    wrong: list[Misfit] = []
    if not any(weights.is_relative_to(mount.target) for mount in variant.container.mounts):
        wrong.append((("container", "mounts"), f"the weights' path {weights} lies under none of the mounts"))
    if variant.launch.kind != "command":
        model = variant.serve.get("model")
        if not isinstance(model, str):
            wrong.append((("serve", "model"), f"this key is missing: the weights' path {weights}"))
        elif not PurePosixPath(model).is_relative_to(weights):
            wrong.append((("serve", "model"), f"{model} is not where the weights are, {weights}"))
    return wrong
