"""What every host must have for its replicas: resources in the order of their stages; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from flagprov.cluster import meeting_port, rendezvous_port
from flagprov.container import create_body, optional_sources
from flagprov.host.launcher_ssh import CALLERS
from flagprov.host.slots import CURRENT, RECORD, SECOND
from flagprov.models.desired import HostDesired, Resource, Stage, container_name, unit_name
from flagprov.models.fleet import Host
from flagprov.models.observed import Running
from flagprov.models.release import BuiltImage, Image, Release
from flagprov.runner.operators import operators_expected
from flagprov.runner.render import ENVIRONMENT, render
from flagprov.runner.spanning import by_host, spanning_ports, ssh_document
from flagprov.runner.user import container_user
from flagprov.runner_keys import PUBLIC, entry_options, mark, runner_files
from flagprov.serving import (
    STATE,
    STOP_TIMEOUT_S,
    Serving,
    cache_path,
    config_path,
    configs_path,
    host_path,
    keys_folder,
    launch_inputs,
    rdma_environment,
    replica_path,
    site_path,
    site_reference,
)
from flagprov.wait_script import wait_script

FAN_OUT = "fan-out"  # flagprov_images: hosts do not pull
OUTSIDE = "/usr/local/sbin/flagprov-outside"  # of host_baseline, where a proxy has a login
COMMON_IMAGE_MIB = 2048  # the least that is asked for where the image's size is not known


def host_desired(host: str, servings: Sequence[Serving]) -> HostDesired:
    """All resources of one host; later stages are pending while an image was never looked into."""
    found: dict[tuple[str, str], Resource] = {}
    pending = ""
    for serving in servings:
        for resource in _resources(serving):
            found.setdefault((resource.kind, resource.name), resource)
        if serving.facts is None:
            image = serving.variant.image.reference
            pending = f"configuration and container follow once {image} has been looked into"
    ordered = sorted(found.values(), key=lambda resource: resource.stage)
    return HostDesired(host, tuple(ordered), pending)


def _resources(serving: Serving) -> Iterable[Resource]:
    found = image_resource(serving.variant.image, serving.host)
    image = found.spec
    yield replace(found, replica=serving.replica.name)
    if serving.facts is None:
        spec = {**image, "probe": serving.probe_version}
        yield Resource("image_facts", image["reference"], Stage.IMAGE, spec, serving.replica.name)
    yield _weights(serving)
    yield _claim(serving)
    if serving.facts is not None:
        yield from _config(serving)
        yield from _serve(serving, image)


def image_resource(image: Image, host: Host) -> Resource:
    """An image on a host, by the name that the site has for it."""
    reference = site_reference(image.reference, host.registries)
    spec: dict[str, Any] = {
        "reference": reference,
        "digests": list(image.digests),
        "need_mib": COMMON_IMAGE_MIB,
    }
    if isinstance(image, BuiltImage):
        spec["base"] = dict(image_resource(image.base, host).spec)
    elif host.variables.get("flagprov_images") == FAN_OUT:
        spec["brought"] = True
    return Resource("image", reference, Stage.IMAGE, spec)


def _weights(serving: Serving) -> Resource:
    resource = weights_resource(serving.release, serving.host, serving.files)
    return replace(resource, replica=serving.replica.name)


def weights_resource(release: Release, host: Host, files: Sequence[tuple[str, int, str]] = ()) -> Resource:
    """Weights on a host; `files` where the site has locked them."""
    weights = release.weights
    path = host_path(weights.path.rstrip("/"), release, host)
    remedy = f"bring {weights.source} to {path} on this host"
    if weights.source.startswith("modelscope://"):
        model = weights.source.removeprefix("modelscope://")
        remedy = f"on this host: modelscope download --model {model} --local_dir {path}"
    fetch = {"source": weights.source, "revision": weights.revision}
    spec: dict[str, Any] = {"path": path, "remedy": remedy, "fetch": fetch}
    if files:
        spec["files"] = [list(entry) for entry in files]
    return Resource("weights", path, Stage.WEIGHTS, spec)


def _claim(serving: Serving) -> Resource:
    replica = serving.replica
    spec: dict[str, Any] = {
        "container": container_name(replica.instance),
        "port": replica.port,
        "devices": list(replica.devices),
        "tool": serving.chip.detection.tool,
    }
    if replica.nodes:  # all that listens does so on the head
        head = [replica.port, rendezvous_port(replica.port), meeting_port(replica.port)]
        spec["ports"] = ([] if serving.rank else head) + spanning_ports(launch_inputs(serving))
        if serving.variant.launch.ssh_port in spec["ports"]:  # follows from no other
            spec["ssh_port"] = serving.variant.launch.ssh_port
    return Resource("claim", f"port and devices of {replica.name}", Stage.CONFIG, spec, replica.name)


def _config(serving: Serving) -> Iterable[Resource]:
    name = serving.replica.name
    files = render(launch_inputs(serving))
    home, folder = replica_path(name), replica_path(serving.replica.instance)
    configs = configs_path(serving.replica)
    for path in dict.fromkeys((home, folder, f"{folder}/run", f"{folder}/host", configs)):
        yield Resource("directory", path, Stage.CONFIG, {"path": path, "mode": "0755"}, name)
    user, cache = container_user(serving.variant, serving.facts), cache_path(serving)
    yield Resource("directory", cache, Stage.CONFIG, {"path": cache, "mode": "0755", "owner": user}, name)
    yield from _runner(serving)
    path = config_path(serving.replica, files)
    tree: dict[str, Any] = {"path": path, "files": dict(files), "owner": user}
    tree["private"] = list(ENVIRONMENT)  # it may hold keys
    yield Resource("tree", path, Stage.CONFIG, tree, name)
    wait = {"path": f"{folder}/wait", "mode": "0755", "content": wait_script(serving)}
    yield Resource("file", wait["path"], Stage.CONFIG, wait, name)
    # For root alone: what was set may be a key.
    record = {"path": f"{home}/{RECORD}", "mode": "0600", "content": _record(serving, path)}
    yield Resource("file", record["path"], Stage.CONFIG, record, name)


def _runner(serving: Serving) -> Iterable[Resource]:
    """The keys by which FlagScale enters the nodes; they go with the replica's folder."""
    said, replica, keys = ssh_document(launch_inputs(serving)), serving.replica, serving.keys
    entered = said is not None and said["by_host"] and serving.rank > 0
    if said is not None and keys is not None:
        folder = keys_folder(replica.name)
        yield Resource("directory", folder, Stage.CONFIG, {"path": folder, "mode": "0700"}, replica.name)
        for name, content in runner_files(keys, replica.name, replica.nodes).items():
            if entered and name in CALLERS:
                continue  # who is only entered has no need of the key
            path = f"{folder}/{name}"
            spec = {"path": path, "mode": "0600", "content": content, "secret": True}
            yield Resource("file", path, Stage.CONFIG, spec, replica.name)
        if entered:
            yield from _entry(serving)
    if replica.nodes and not entered:
        yield _no_entry(replica.name)


def _entry(serving: Serving) -> Iterable[Resource]:
    """The head's way through this host's own sshd; the script lies where no container reaches it."""
    replica = serving.replica
    path = f"{replica_path(replica.name)}/enter"
    content = resources.files("flagprov.host").joinpath("entry.py").read_text("utf-8")
    yield Resource(
        "file", path, Stage.CONFIG, {"path": path, "mode": "0700", "content": content}, replica.name
    )
    spec = {
        "mark": mark(replica.name),
        "from": replica.nodes[0].address,
        "options": entry_options(replica.name, replica.nodes, path),
        "key": f"{keys_folder(replica.name)}/{PUBLIC}",  # not its text: histories have no keys
    }
    yield Resource("authorized_key", _key_name(replica.name), Stage.CONFIG, spec, replica.name)


def _no_entry(replica: str) -> Resource:
    spec = {"mark": mark(replica), "absent": True}
    return Resource("authorized_key", _key_name(replica), Stage.CONFIG, spec, replica)


def _key_name(replica: str) -> str:
    return f"root's key for {replica}"


def _record(serving: Serving, config: str) -> str:
    """What was deployed, for other controllers, `status` and placement; no time in it, so that bytes stay."""
    replica = serving.replica
    record: dict[str, Any] = {
        "schema_version": 1,
        "replica": {
            "replica": replica.name,
            "release": replica.release,
            "chip": replica.chip,
            "hosts": list(replica.hosts),
            "devices": list(replica.devices),
            "port": replica.port,
            **({"slot": replica.slot} if replica.slot else {}),
        },
        "probe": _probe_spec(serving),
        "config": config,
        "weights": site_path(serving.release.weights.path.rstrip("/"), serving),
        "set": list(serving.sets),
        "engine_version": serving.facts.vllm if serving.facts else None,
    }
    if replica.nodes:
        record["rank"] = serving.rank
        record["rendezvous_port"] = rendezvous_port(replica.port)
        record["nodes"] = [
            {"host": node.host, "address": node.address, "interface": node.interface}
            for node in replica.nodes
        ]
        launch = serving.variant.launch
        if rdma := rdma_environment(serving):
            record["rdma"] = rdma  # kept while it holds
        ssh = None if by_host(launch_inputs(serving)) else launch.ssh_port
        record["launch"] = {"kind": launch.kind, "ssh_port": ssh}  # which ports it holds
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def _serve(serving: Serving, image: Mapping[str, Any]) -> Iterable[Resource]:
    replica = serving.replica
    name, unit_of = container_name(replica.instance), unit_name(replica.instance)
    config = config_path(replica, render(launch_inputs(serving)))
    spec = {
        "name": name,
        "replica": replica.name,
        "unit": unit_of,
        "folder": replica_path(replica.instance),
        "image": dict(image),
        "create": create_body(serving),
        "optional_sources": optional_sources(serving),
        "made": [f"{STATE}/"],
        "stop_timeout_s": STOP_TIMEOUT_S,
    }
    yield Resource("container", name, Stage.SERVE, spec, replica.name)
    current = f"{configs_path(replica)}/{CURRENT}"
    link = {"path": current, "config": config, "container": name, "unit": unit_of}
    yield Resource("current", current, Stage.SERVE, link, replica.name)
    unit = {
        "unit": unit_of,
        "active": True,
        "after": [name],
        "stop_timeout_s": STOP_TIMEOUT_S,
    }
    yield Resource("unit", unit_of, Stage.SERVE, unit, replica.name)
    probe = _probe_spec(serving)
    what = f"rank {serving.rank}" if serving.rank else "endpoint"
    yield Resource("probe", f"{what} of {replica.name}", Stage.VERIFY, probe, replica.name)


def _probe_spec(serving: Serving) -> dict[str, Any]:
    replica = serving.replica
    readiness = serving.variant.readiness or serving.release.readiness
    host = str(serving.variant.serve.get("host") or "0.0.0.0")
    model = serving.variant.serve.get("served_model_name") or serving.variant.serve.get("model") or ""
    name = container_name(replica.instance)
    spec: dict[str, Any] = {
        "replica": replica.name,
        "container": name,
        "unit": unit_name(replica.instance),
        "address": "127.0.0.1" if host in ("0.0.0.0", "::", "") else host,
        "port": replica.port,
        "model": model if isinstance(model, str) else str(model),
        "readiness": readiness.kind,
        "path": readiness.path,
        "command": list(readiness.command),
        "deadline_s": readiness.deadline_s,
        "after": [name, f"{configs_path(replica)}/{CURRENT}", unit_name(replica.instance)],
        "stop_timeout_s": STOP_TIMEOUT_S,
    }
    spec["operators"] = operators_expected(launch_inputs(serving))
    if replica.nodes:
        spec["launcher"] = f"{replica_path(replica.instance)}/run/state.json"
        if serving.rank:  # it has no endpoint of its own
            spec["readiness"] = "rank"
    return spec


def stopped(running: Running) -> tuple[Resource, ...]:
    """A replica that is not running and does not come back."""
    return halted(running.replica)


def halted(replica: str) -> tuple[Resource, ...]:
    """In whichever slot it is."""
    found = []
    for unit in (unit_name(replica), unit_name(replica + SECOND)):
        spec = {"unit": unit, "active": False, "stop_timeout_s": STOP_TIMEOUT_S}
        found.append(Resource("unit", unit, Stage.SERVE, spec, replica))
    return tuple(found)


def absent(running: Running) -> tuple[Resource, ...]:
    """Nothing of a replica: no unit instance, no container, no files."""
    replica = running.replica
    slots = (replica + SECOND, replica)
    return (
        *stopped(running),
        *(_no_container(replica, instance) for instance in slots),
        *([_no_entry(replica)] if len(running.hosts) > 1 else []),
        *(_no_folder(replica, replica_path(instance)) for instance in slots),
    )


def returning(replica: str, instance: str) -> tuple[Resource, ...]:
    """What runs in one slot of a replica comes back after a reboot, too."""
    unit = unit_name(instance)
    spec = {"unit": unit, "active": True, "stop_timeout_s": STOP_TIMEOUT_S}
    return (Resource("unit", unit, Stage.SERVE, spec, replica),)


def vacated(replica: str, instance: str, serves: str) -> tuple[Resource, ...]:
    """One slot of a replica empty again; what is in the other one serves on."""
    spec = {"name": instance, "replica": replica, "for": serves, "stop_timeout_s": STOP_TIMEOUT_S}
    return (Resource("slot", instance, Stage.SERVE, spec, replica),)


def _no_container(replica: str, instance: str) -> Resource:
    name = container_name(instance)
    spec = {"name": name, "replica": replica, "unit": unit_name(instance), "absent": True}
    return Resource("container", name, Stage.SERVE, spec, replica)


def _no_folder(replica: str, path: str) -> Resource:
    return Resource("directory", path, Stage.SERVE, {"path": path, "absent": True}, replica)


def emptied() -> tuple[Resource, ...]:
    """A host without any trace of flagprov; engine, driver and foreign data stay."""
    unit = "/etc/systemd/system/flagprov@.service"
    return (
        Resource("file", unit, Stage.VERIFY, {"path": unit, "absent": True, "unit": True}),
        _no_login(),
        Resource("directory", STATE, Stage.VERIFY, {"path": STATE, "absent": True}),
    )


def _no_login() -> Resource:
    """Provisioning takes it back in the end, but where it failed."""
    spec = {"path": OUTSIDE, "absent": True, "reason": "it has a proxy's login, of provisioning that failed"}
    return Resource("file", OUTSIDE, Stage.VERIFY, spec)


def unneeded(answer: Mapping[str, Any]) -> tuple[Resource, ...]:
    """What a host may lose, as it says itself; each with the room that this gives."""
    found = []
    for image in answer["images"]:
        spec = {"id": str(image["id"]), "absent": True, "reason": _unused(image)}
        found.append(Resource("image", str(image["name"]), Stage.VERIFY, spec))
    found += [_gone("weights", weights) for weights in answer["weights"]]
    found += [_gone("directory", directory) for directory in answer["directories"]]
    for name in map(str, answer["builds"]):
        found.append(Resource("build", name, Stage.VERIFY, {"container": name, "absent": True}))
    return (*found, _no_login())


def _gone(kind: str, entry: Mapping[str, Any]) -> Resource:
    path = str(entry["path"])
    return Resource(kind, path, Stage.VERIFY, {"path": path, "absent": True, "reason": _unused(entry)})


def _unused(entry: Mapping[str, Any]) -> str:
    return f"nothing needs it; {int(entry['bytes']) / 1e6:,.1f} MB"
