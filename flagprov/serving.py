"""One replica on one host: the value that its resources are made of, and how its things are called; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flagprov.access import by_runtime, logical_numbers
from flagprov.cluster import RDMA
from flagprov.host.slots import CONFIGS
from flagprov.models.chip import Chip
from flagprov.models.desired import Replica
from flagprov.models.fleet import Host
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Survey
from flagprov.models.release import Image, Release, Variant
from flagprov.models.runner import RunnerKeys
from flagprov.processors import THREAD_VARIABLES, operators, processor_environment
from flagprov.runner.inputs import LaunchInputs
from flagprov.runner.render import content_hash
from flagprov.runner.spanning import ssh_document
from flagprov.runner.user import container_user

STATE = "/var/lib/flagprov"
STOP_TIMEOUT_S = 120  # of docker; the launcher gives requests 20 s less, and ends the engine by itself


@dataclass(frozen=True, slots=True)
class Serving:
    """One replica on one host, with everything that its resources are made of."""

    release: Release
    variant: Variant  # after settings
    chip: Chip
    replica: Replica
    host: Host
    survey: Survey
    facts: ImageFacts | None
    probe_version: str  # names the image probe, so that a newer one looks again
    sets: tuple[str, ...] = ()
    settings_keys: frozenset[str] = frozenset()  # serve keys that settings brought, for the right error
    files: tuple[tuple[str, int, str], ...] = ()  # of the weights, where the site has locked them
    keys: RunnerKeys | None = None  # where the replica's nodes enter each other

    @property
    def rank(self) -> int:
        """The host's place in the replica; the head, which answers HTTP, is 0."""
        return self.replica.hosts.index(self.host.name) if self.replica.nodes else 0


def image_key(image: Image, chip: str, arch: str) -> str:
    """Names what is known of an image for a processor: its locked digests, or its name while there are none.

    Each chip locks what its own hosts have got by that name.
    """
    text = json.dumps([sorted(image.digests) or [image.reference, chip], arch])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def site_reference(reference: str, registries: Mapping[str, str]) -> str:
    """The name under which this site's hosts pull an image; the longest mapped prefix wins."""
    for upstream in sorted(registries, key=len, reverse=True):
        if reference.startswith(upstream.rstrip("/") + "/"):
            return registries[upstream].rstrip("/") + reference[len(upstream.rstrip("/")) :]
    return reference


def site_path(path: str, serving: Serving) -> str:
    """A path of the card on this site: its weights root may be mounted elsewhere."""
    return host_path(path, serving.release, serving.host)


def host_path(path: str, release: Release, host: Host) -> str:
    root = release.weights.root.rstrip("/")
    if host.weights_root and (path == root or path.startswith(root + "/")):
        return host.weights_root.rstrip("/") + path[len(root) :]
    return path


def launch_inputs(serving: Serving) -> LaunchInputs:
    return LaunchInputs(
        release=serving.release.name,
        replica=serving.replica,
        variant=serving.variant,
        chip=serving.chip,
        model_path=serving.release.weights.path,
        env=merged_environment(serving),
        model=serving.release.model.name,
        facts=serving.facts,
        settings_keys=serving.settings_keys,
        rank=serving.rank,
        logical=logical_numbers(serving.survey.devices.get(serving.chip.detection.tool, ())),
        stop_grace_s=STOP_TIMEOUT_S - 20,
    )


def configs_path(replica: Replica) -> str:
    """Configurations of what is in a replica's slot, as its container sees them."""
    return f"{replica_path(replica.instance)}/{CONFIGS}"


def config_path(replica: Replica, files: Mapping[str, str]) -> str:
    return f"{configs_path(replica)}/{content_hash(files)[:32]}"


def cache_path(serving: Serving) -> str:
    """Compiled kernels are kept per image, chip, FlagGems version, and user who writes them."""
    assert serving.facts is not None
    image = serving.facts.digest.removeprefix("sha256:")[:16]
    user = container_user(serving.variant, serving.facts)
    of_user = f"-{user}" if user else ""
    return f"{STATE}/caches/{image}-{serving.chip.name}-{serving.facts.flaggems or 'none'}{of_user}"


def replica_path(name: str) -> str:
    """Of a replica: its record and history; or of what is in one of its slots."""
    return f"{STATE}/replicas/{name}"


def keys_folder(replica: str) -> str:
    """The host writes there as root: it must not lie in `run`, where the container could put links."""
    return f"{replica_path(replica)}/ssh"


def keys_path(serving: Serving) -> str | None:
    """The keys that this node's container reads; None where it needs none."""
    said = ssh_document(launch_inputs(serving))
    entered = said is not None and said["by_host"] and serving.rank > 0
    if said is None or serving.keys is None or entered:
        return None
    return keys_folder(serving.replica.name)


def merged_environment(serving: Serving) -> dict[str, str]:
    """Chip, host, card and operators; what the variable says is what was asked for, not a proof."""
    env = {**serving.chip.env, **_derived(serving), **rdma_environment(serving), **serving.variant.env}
    env.pop("USE_FLAGGEMS", None)
    if serving.chip.runtime:
        # A runtime that is docker's default reads it also in containers that get their devices by mounts.
        env.pop(serving.chip.runtime.devices, None)
        if by_runtime(serving.chip, serving.host):
            env[serving.chip.runtime.devices] = ",".join(str(index) for index in serving.replica.devices)
    if operators(serving.chip, serving.variant, serving.facts)[0] == "flaggems":
        env["USE_FLAGGEMS"] = "1"
    return env


def rdma_environment(serving: Serving) -> dict[str, str]:
    """The RDMA ports of a node of several; nothing of it where release or settings say some of it."""
    if not serving.replica.nodes or not serving.chip.rdma:
        return {}
    from flagprov.rails import VARIABLES, environment

    if VARIABLES & serving.variant.env.keys():
        return {}
    record = serving.survey.records.get(serving.replica.name) or {}
    return environment(serving.host, serving.survey.facts.get("rdma"), record.get("rdma") or {})


def undecided(servings: Iterable[Serving]) -> Iterator[str]:
    """Where no RDMA ports are chosen, because nothing tells which of them are for the ranks."""
    from flagprov.rails import VARIABLES, read, unchosen
    from flagprov.report.text import names

    hosts: dict[str, list[str]] = {}
    for each in servings:
        told = each.survey.facts.get("rdma")
        said = VARIABLES & each.variant.env.keys() or rdma_environment(each)
        if told and each.replica.nodes and each.chip.rdma and not said:
            hosts.setdefault(unchosen(read(told), each.host.connection.address), []).append(each.host.name)
    for why, them in hosts.items():
        if why:
            yield f"{names(them)}: {why}; {RDMA} of the host names those for the ranks, or is off"


def _derived(serving: Serving) -> dict[str, str]:
    """What follows from the host's processors; whoever sets one of the thread variables sets both."""
    size = sum(size for _, size, _ in serving.files)
    found = processor_environment(
        serving.chip, serving.variant, serving.release.model, serving.replica, serving.survey, size
    )
    taken = THREAD_VARIABLES if THREAD_VARIABLES & serving.variant.env.keys() else frozenset()
    return {name: value for name, value in found.items() if name not in taken}
