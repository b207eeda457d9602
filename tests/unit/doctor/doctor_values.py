"""Subjects of checks, made of the captured outputs in tests/cases/facts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.doctor.examine import CHECKS
from flagprov.doctor.read import read_facts
from flagprov.doctor.subject import Serving, Subject, Verdict
from flagprov.models.desired import Refusal, Replica
from flagprov.models.facts import HostFacts
from flagprov.models.fleet import Connection, Host
from flagprov.models.image import ImageFacts
from flagprov.serving import host_path

CASES = Path(__file__).parents[2] / "cases" / "facts"
CHIPS = load_chips()
ALL = {check.name: check.look for check in CHECKS}


def case(name: str) -> Any:
    return json.loads((CASES / f"{name}.json").read_text())


def answer(**more: Any) -> dict[str, Any]:
    """What a healthy host says that has no accelerator."""
    return {
        "schema_version": 1,
        "devices": {"cpuinfo": [device(0, "AMD EPYC", 65536)]},
        "device_errors": {},
        "system": {
            "name": "Ubuntu 22.04.4 LTS", "id": "ubuntu", "version": "22.04", "kernel": "5.15.0-113-generic",
            "arch": "x86_64", "machine": "Maker Model", "memory_mib": 65536,
        },
        "processor": {
            "name": "AMD EPYC", "cpus": 8, "features": ["sse2"], "sockets": 1, "cores_per_socket": 8,
            "threads_per_core": 1, "numa_nodes": 1,
        },
        "docker": {
            "version": "24.0.7", "arch": "amd64", "root": "/var/lib/docker", "free_mib": 500_000,
            "total_mib": 900_000, "storage": "overlay2", "runtimes": ["runc"], "default_runtime": "runc",
            "cgroup_driver": "systemd", "live_restore": False,
        },
        "mounts": [],
        "paths": [path("/nfs")],
        "clock": {"tool": "chronyc", "synchronized": True, "offset_s": 0.000003},
        "interfaces": [
            {"name": "eth0", "state": "up", "mtu": 1500, "speed_mbps": 100000, "addresses": ["192.0.2.5/24"]}
        ],
        "ports": [],
        "bus": {"nvidia": 0, "nvswitch": 0, "ascend": 0},
        "nvidia": None,
        "ascend": None,
        "unknown": {},
        "time": 1763646002.5,
        "clock_offset_s": 0.01,
        **more,
    }  # fmt: skip


def device(index: int, name: str, memory: int | None, **more: Any) -> dict[str, Any]:
    plain = {"index": index, "name": name, "memory_mib": memory, "processes": [], "uuid": ""}
    return {**plain, **more}


def path(name: str, **more: Any) -> dict[str, Any]:
    return {
        "path": name, "point": name, "source": "filer.example:/models", "type": "nfs4", "read_only": False,
        "network": True, "planned_point": name, "planned_source": "filer.example:/models", "exists": True,
        "answers": True, "empty": False, "free_mib": 1_000_000, "total_mib": 9_000_000, **more,
    }  # fmt: skip


def h100(**more: Any) -> dict[str, Any]:
    """Facts of a host with eight H100, all of them well."""
    first = case("nvidia_xml/two-h100")["gpus"][0]
    gpus = [{**first, "index": i, "minor": i, "uuid": f"GPU-{i}"} for i in range(8)]
    nvidia: dict[str, Any] = {
        "errors": {},
        "loaded": {"version": "550.54.15", "open": True},
        "on_disk": "550.54.15",
        "report": {"driver": "550.54.15", "cuda": "12.4", "gpus": gpus},
        "links": [{"index": i, "up": 18, "down": []} for i in range(8)],
        "xids": [],
        "fabric_manager": {"version": "550.54.15", "active": "active"},
    }
    nvidia.update(more.pop("nvidia", {}))
    devices = [device(i, "NVIDIA H100 80GB HBM3", 81559, uuid=f"GPU-{i}") for i in range(8)]
    facts = answer(devices={"nvidia-smi": devices}, bus={"nvidia": 8, "nvswitch": 4, "ascend": 0})
    return {**facts, "nvidia": nvidia, **more}


def ascend(table: str, **more: Any) -> dict[str, Any]:
    """Facts of an Ascend host whose `npu-smi info` is one of the cases."""
    seen = case(f"npu_smi/{table}")
    devices = seen["devices"]
    said: dict[str, Any] = {
        "errors": {},
        "table": seen,
        "driver": seen["version"],
        "firmware": "7.7.0.6.236",
        "install": case("key_value/ascend-install.info"),
        "mapping": [
            {"card": d["card"], "chip": d["chip"], "logic_id": i, "name": "Ascend 910"}
            for i, d in enumerate(devices)
        ],
        "network": [{"index": d["index"], "link": "UP", "health": "Success"} for d in devices],
    }
    said.update(more.pop("ascend", {}))
    facts = answer(devices={"npu-smi": devices}, bus={"nvidia": 0, "nvswitch": 0, "ascend": 0})
    facts["system"] = {**facts["system"], "arch": "aarch64", "name": "openEuler 22.03 (LTS-SP4)"}
    return {
        **facts,
        "paths": [path("/data"), path("/usr/local/sbin", point="/", network=False, planned_point=None)],
        "ascend": said,
        **more,
    }


def subject(
    facts: dict[str, Any],
    chip: str,
    release: str | None = None,
    *,
    variant: str | None = None,
    peers: dict[str, HostFacts] | None = None,
    refusal: str = "",
    image: ImageFacts | None = None,
    before_provisioning: bool = False,
    **changes: Any,
) -> Subject:
    """`variant`: of another chip than the host's; `changes` are made to the variant."""
    host = Host("h1", Connection("192.0.2.5"), chip=chip)
    read = read_facts("h1", facts)
    serving = None
    if release:
        found = load_release(release)
        wanted = found.variants[variant or chip].model_copy(update=changes)
        devices = tuple(range(wanted.devices))
        replica = Replica(f"{release}-0", release, chip, ("h1",), devices, 9010)
        serving = Serving(
            release=found,
            variant=wanted,
            reference=wanted.image.reference,
            weights=host_path(found.weights.path.rstrip("/"), found, host),
            sources=tuple(
                mount.source
                for mount in wanted.container.mounts
                if not mount.optional and mount.source not in {m.source for m in CHIPS[chip].mounts}
            ),
            replicas=() if refusal else (replica,),
            refusal=Refusal("h1", refusal, "stop it") if refusal else None,
            image=image,
        )
    return Subject(host, read, CHIPS[chip], CHIPS, serving, peers or {}, before_provisioning)


def check(name: str, of: Subject) -> Verdict:
    verdict = ALL[name](of)
    assert verdict is not None, f"{name} says nothing"
    assert verdict.state == "ok" or verdict.remedy, f"{name} has no remedy"
    return verdict


def state(name: str, of: Subject) -> str:
    return check(name, of).state


def without_chip(of: Subject) -> Subject:
    return replace(of, chip=None)
