"""What this machine can serve with: devices by tool, with the processes on them."""

from __future__ import annotations

import os
import re

from flagprov.host.facts import Unparsed, shown
from flagprov.host.machine import memory_mib, read
from flagprov.host.shell import Result, run, together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NPU_SMI = ("npu-smi", "/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi")  # depends on the driver's version
NODES = "/sys/devices/system/node"
EMULATED = "/etc/flagprov-emulated"  # there where the devices are made up, such as in a lab


def devices() -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Devices by tool, and why a tool that is here could not name them all; an absent tool is left out."""
    found = {"cpuinfo": processors()}
    errors: dict[str, str] = {}
    for tool, probe in (("nvidia-smi", _nvidia), ("npu-smi", _ascend)):
        try:
            answer = probe()
        except Unparsed as unparsed:
            found[tool], errors[tool] = [], str(unparsed)
            continue
        if answer is not None:
            found[tool] = answer[0]
            if answer[1]:
                errors[tool] = answer[1]
    return found, errors


def processors() -> list[dict[str, Any]]:
    """One device per NUMA node."""
    from flagprov.host.facts.system import cpuinfo

    try:
        name = cpuinfo(read("/proc/cpuinfo"))["name"] or os.uname().machine
    except Unparsed:
        name = os.uname().machine
    count = max(1, numa_nodes())
    each = memory_mib() // count
    return [_device(index, name, each) for index in range(count)]


def is_there(program: str) -> bool:
    """Looked up first, because starting a program that is not there costs milliseconds in every pass."""
    folders = os.environ.get("PATH", os.defpath).split(":")
    paths = (os.path.join(folder, program) for folder in folders)
    return any(os.access(path, os.X_OK) and os.path.isfile(path) for path in paths)


def _device(index: int, name: str, memory: int) -> dict[str, Any]:
    return {
        "index": index,
        "name": name,
        "memory_mib": memory,
        "used_mib": None,
        "processes": [],
        "uuid": "",
        "health": "ok",
        "card": None,
        "phy_id": None,
        "logical": None,
    }


def _nvidia() -> tuple[list[dict[str, Any]], str] | None:
    """CSV, because nvidia-smi's text is not stable between versions."""
    from flagprov.host.facts import nvidia

    if not is_there("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--format=csv,noheader,nounits"]
    answer, apps, long = together(
        [
            query + ["--query-gpu=" + nvidia.QUERY],
            query + ["--query-compute-apps=" + nvidia.APPS],
            ["nvidia-smi", "-q", "-x"],
        ],
        timeout=120,
    )
    if answer.code == 127:
        return None
    lost = "\n".join(nvidia.lost(answer.err))  # beside the rows, or on the other channel
    if answer.code and not lost and not nvidia.lost(answer.out):
        raise Unparsed("nvidia-smi: %s" % shown(answer.out + " " + answer.err))
    if apps.code and not lost and not nvidia.lost(answer.out + "\n" + apps.out):
        said = shown(apps.out + " " + apps.err)
        raise Unparsed("nvidia-smi does not say which processes there are: %s" % said)
    found, complaints = nvidia.devices(answer.out + "\n" + lost, apps.out)
    ill = _ill_gpus(long.out)
    for device in found:
        if device["health"] == "ok":
            device["health"] = ill.get(device["uuid"]) or "ok"
    if not found and not complaints:
        complaints = ["it names no device"]
    return found, "; ".join(complaints)


def _ill_gpus(said: str) -> dict[str, str]:
    """By UUID, what the long report says of GPUs that answer and are not to be used all the same."""
    from flagprov.host.facts import nvidia

    try:
        gpus = nvidia.report(said)["gpus"]
    except Unparsed:
        return {}
    return {gpu["uuid"]: nvidia.illness(gpu) for gpu in gpus}


def npu_smi(arguments: list[str]) -> str | None:
    """What npu-smi prints; None where there is none."""
    program = _npu_smi()
    return None if program is None else _said(run([program] + arguments))


def _npu_smi() -> str | None:
    return next(filter(is_there, NPU_SMI), None)


def _said(answer: Result) -> str:
    if answer.code:
        raise Unparsed("npu-smi: %s" % shown(answer.out + " " + answer.err))
    return answer.out


def _ascend() -> tuple[list[dict[str, Any]], str] | None:
    from flagprov.host.facts import ascend

    program = _npu_smi()
    if program is None:
        return None
    table, mapping = together([[program, "info"], [program, "info", "-m"]])
    found = ascend.table(_said(table))["devices"]
    try:
        entries = ascend.mapping(_said(mapping))
    except Unparsed:
        entries = []
    return ascend.numbered(found, entries), ""


def maker() -> str:
    """Maker and model of the machine, as its firmware says; empty where it says nothing."""
    names = [read("/sys/class/dmi/id/" + name).strip() for name in ("sys_vendor", "product_name")]
    return " ".join(name for name in names if name)


def numa_nodes() -> int:
    entries = os.listdir(NODES) if os.path.isdir(NODES) else []
    return len([entry for entry in entries if re.match(r"node\d+$", entry)])


def numa() -> list[dict[str, Any]]:
    """Processors and memory of each NUMA node, in the order of `processors`."""
    entries = os.listdir(NODES) if os.path.isdir(NODES) else []
    numbers = sorted(int(entry[4:]) for entry in entries if re.match(r"node\d+$", entry))
    return [
        {
            "cpus": read("%s/node%d/cpulist" % (NODES, number)).strip(),
            "memory_mib": memory_mib("%s/node%d/meminfo" % (NODES, number)),
        }
        for number in numbers
    ]
