"""Collectors of drivers, devices and their health."""

from __future__ import annotations

import os

from flagprov.host.facts import Unparsed, shown
from flagprov.host.facts import ascend as parse_ascend
from flagprov.host.facts import nvidia as parse
from flagprov.host.facts.devices import npu_smi
from flagprov.host.facts.host import own_json
from flagprov.host.machine import read
from flagprov.host.shell import run, unit_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

ASCEND = "/usr/local/Ascend"
CANN = ASCEND + "/ascend-toolkit"
HCCN = ("hccn_tool", ASCEND + "/driver/tools/hccn_tool")
HCCN_CONF = "/etc/hccn.conf"
PROBE = "flagprov-probe-npu"
TRIAL = 'for file in $SCRIPTS; do [ ! -f "$file" ] || . "$file"; done; exec python3 /flagprov_probe.py "$@"'
NVIDIA, HUAWEI = "0x10de", "0x19e5"
PORT_STATES = (("link", "-link", parse_ascend.hccn), ("health", "-net_health", parse_ascend.hccn))
PORT_SETTINGS = (
    ("ip", "-ip", parse_ascend.hccn_address),
    ("gateway", "-gateway", parse_ascend.hccn_gateway),
    ("tls", "-tls", parse_ascend.hccn_tls),
)
CLASSES = {(NVIDIA, "0x03"): "nvidia", (NVIDIA, "0x0680"): "nvswitch", (HUAWEI, "0x12"): "ascend"}


PCI = "/sys/bus/pci/devices"


def bus() -> dict[str, int]:
    """Accelerators that the PCI bus has, by kind, whatever the driver says."""
    found = dict.fromkeys(CLASSES.values(), 0)
    for kind, _ in _on_bus():
        found[kind] += 1
    return found


def pci_ids() -> dict[str, int]:
    """The same accelerators by vendor and device, as in 10de:2330."""
    found: dict[str, int] = {}
    for kind, number in _on_bus():
        if kind != "nvswitch":
            found[number] = found.get(number, 0) + 1
    return found


def _on_bus() -> list[tuple[str, str]]:
    """Kind and number of each; OSError where there is no such bus."""
    found = []
    for device in sorted(os.listdir(PCI)):
        vendor, kind, number = (
            read("%s/%s/%s" % (PCI, device, name)).strip() for name in ("vendor", "class", "device")
        )
        for (maker, prefix), name in CLASSES.items():
            if vendor == maker and kind.startswith(prefix):
                found.append((name, "%s:%s" % (vendor[2:], number[2:])))
    return found


def _attempt(found: dict[str, Any], name: str, collector: Callable[[], Any]) -> None:
    """A value, or None and the reason under `errors`."""
    found[name] = None
    try:
        found[name] = collector()
    except Unparsed as unparsed:
        found["errors"][name] = str(unparsed)


def nvidia(devices: Sequence[dict[str, Any]] = ()) -> dict[str, Any] | None:
    """None where nothing of NVIDIA's driver is here; `devices` tell which number a GPU of the report has."""
    said = run(["nvidia-smi", "-q", "-x"], timeout=120)
    module = read("/proc/driver/nvidia/version")
    disk = run(["modinfo", "-F", "version", "nvidia"], timeout=20)
    if said.code == 127 and not module and disk.code:
        return None
    found: dict[str, Any] = {"errors": {}}
    _attempt(found, "loaded", lambda: parse.loaded(module) if module else None)
    _attempt(found, "on_disk", lambda: None if disk.code else parse.version(disk.out))
    _attempt(found, "report", lambda: None if said.code == 127 else _report(said.code, said.out, said.err))
    numbers = {device["uuid"]: device["index"] for device in devices if device["uuid"]}
    for gpu in found["report"]["gpus"] if found["report"] else ():
        gpu["index"] = numbers.get(gpu["uuid"], gpu["index"])  # a lost GPU before it is left out there
    _attempt(found, "links", lambda: _links() if found["report"] and found["report"]["gpus"] else None)
    _attempt(found, "xids", _xids)
    _attempt(found, "fabric_manager", _fabric_manager)
    return found


def _report(code: int, out: str, err: str) -> dict[str, Any]:
    if code and "<nvidia_smi_log>" not in out:
        raise Unparsed("nvidia-smi: %s" % shown(out + " " + err))
    return parse.report(out)


def _links() -> list[dict[str, Any]] | None:
    said = run(["nvidia-smi", "nvlink", "-s"], timeout=60)
    if said.code and not said.out.startswith("GPU"):
        raise Unparsed("nvidia-smi nvlink -s: %s" % shown(said.out + " " + said.err))
    return parse.links(said.out)


def _xids() -> list[dict[str, Any]]:
    """Of this boot, from the journal or the kernel's own ring."""
    said = run(["journalctl", "-k", "-b", "-q", "--no-pager", "-o", "cat", "--grep", "NVRM: Xid"], timeout=30)
    if said.code and said.err.strip():  # 1 without a word: nothing was found
        said = run(["dmesg"], timeout=20)
        if said.code:
            raise Unparsed("neither journalctl nor dmesg shows the kernel's messages: %s" % shown(said.err))
    return parse.xids(said.out)


def _fabric_manager() -> dict[str, Any] | None:
    said = run(["nv-fabricmanager", "--version"], timeout=20)
    if said.code == 127:
        return None
    return {
        "version": None if said.code else parse.version(said.out),
        "active": unit_state("nvidia-fabricmanager.service").get("ActiveState", "unknown"),
    }


def ascend(cann: str = CANN, spanning: bool = False) -> dict[str, Any] | None:
    """None where nothing of Huawei's driver is here; `cann` is where the host's own toolkit would be.

    `spanning`: more about the NPUs' own ports, for replicas over several hosts.
    """
    driver = read(ASCEND + "/driver/version.info")
    install = read("/etc/ascend_install.info")
    found: dict[str, Any] = {"errors": {}}
    _attempt(found, "table", lambda: _table())
    if not driver and not install and found["table"] is None and not found["errors"]:
        return None
    _attempt(found, "driver", lambda: _pair(driver, "Version"))
    _attempt(found, "firmware", lambda: _pair(read(ASCEND + "/firmware/version.info"), "Version"))
    _attempt(found, "install", lambda: parse_ascend.pairs(install) if install else None)
    _attempt(found, "cann", lambda: _cann(cann))
    _attempt(found, "mapping", lambda: _mapping() if found["table"] else None)
    devices = found["table"]["devices"] if found["table"] else None
    _attempt(found, "network", lambda: _network(devices, spanning) if devices else None)
    configured = read(HCCN_CONF)
    _attempt(found, "hccn", lambda: parse_ascend.pairs(configured) if configured.strip() else None)
    return found


def _cann(path: str) -> str | None:
    """The version of CANN on the host itself, where there is one."""
    name = "ascend_toolkit_install.info"
    for folder in (path + "/latest", path):
        for part in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            text = read("%s/%s/%s" % (folder, part, name))
            if text:
                return _pair(text, "version")
    return None


def _pair(text: str, key: str) -> str | None:
    return parse_ascend.pairs(text).get(key) if text else None


def _table() -> dict[str, Any] | None:
    said = npu_smi(["info"])
    return None if said is None else parse_ascend.table(said)


def _mapping() -> list[dict[str, Any]] | None:
    said = npu_smi(["info", "-m"])
    return None if said is None else parse_ascend.mapping(said)


def _network(devices: list[dict[str, Any]], spanning: bool) -> list[dict[str, Any]] | None:
    """The state of each device's own network port, for replicas over several hosts."""
    found = []
    for device in devices:
        index = str(device["index"])
        entry: dict[str, Any] = {"index": device["index"]}
        for name, option, parser in PORT_STATES + (PORT_SETTINGS if spanning else ()):
            answers = (run([tool, "-i", index, option, "-g"], timeout=20) for tool in HCCN)
            said = next((answer for answer in answers if answer.code not in (126, 127)), None)
            if said is None:
                return None
            try:
                entry[name] = parser(said.out)
            except Unparsed:
                entry[name] = None
        found.append(entry)
    return found


def use(
    wanted: dict[str, list[int] | None],
    devices: dict[str, list[dict[str, Any]]],
    emulated: bool = False,
    image: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Allocate and compute on devices (None: all) that nobody uses; `error` is None where that went well.

    `image`: whose torch_npu may try NPUs, and what a container of it has to be given.
    """
    found: list[dict[str, Any]] = []
    for tool, named in wanted.items():
        known = {device["index"]: device for device in devices.get(tool, ())}
        indices = sorted(known) if named is None else named
        free = [index for index in indices if index in known and not known[index]["processes"]]
        for index in indices:
            if index not in free:
                found.extend(_untried(tool, [index], "in use" if index in known else "not there"))
        if emulated:
            found.extend(_untried(tool, free, "emulated"))
        elif tool == "nvidia-smi" and free:
            found.extend(_cuda(free))
        elif tool == "npu-smi":
            found.extend(_npu(free, image or {}))
    return found


def _npu(indices: list[int], image: dict[str, Any]) -> list[dict[str, Any]]:
    """In a container with no more rights than the replica's: only the image has what is needed."""
    from flagprov.host import docker

    if not image or not indices:
        return _untried("npu-smi", indices, "only an image with torch_npu can do that")
    known = docker.image_id(image["reference"], image["digests"])
    if not known:
        return _untried("npu-smi", indices, "the image with torch_npu is not here yet")
    said = run(npu_command(known, indices, image), timeout=300)
    if said.code == 124:
        run(["docker", "rm", "--force", PROBE], timeout=60)
    lines = said.out.strip().splitlines()
    answer = own_json(lines[-1]) if lines else None
    if not isinstance(answer, list):
        error = "the trial in the image ended with code %d: %s" % (said.code, shown(said.err or said.out))
        answer = [{"index": index, "tried": True, "error": error, "why": ""} for index in indices]
    return [dict(entry, tool="npu-smi") for entry in answer]


def npu_command(known: str, indices: list[int], image: dict[str, Any]) -> list[str]:
    """A container of the image with the devices' nodes and the driver, which ends by itself."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "npu_probe.py")
    nodes = []
    for node in image["nodes"]:
        nodes += [node.replace("{index}", str(index)) for index in indices] if "{" in node else [node]
    argv = ["docker", "run", "--rm", "--init", "--name", PROBE, "--label", "io.flagprov.probe=1"]
    argv += ["--network", "none"]
    for option in ("cap_drop", "cap_add", "security_opt"):
        for value in image.get(option, ()):
            argv += ["--" + option.replace("_", "-"), value]
    for node in nodes:
        argv += ["--device", node]
    for source, target in image["mounts"]:
        if os.path.exists(source):
            argv += ["--mount", "type=bind,source=%s,target=%s,readonly" % (source, target)]
    argv += ["--mount", "type=bind,source=%s,target=/flagprov_probe.py,readonly" % script]
    argv += ["--env", "SCRIPTS=%s" % " ".join(image["source"]), "--entrypoint", "bash", known, "-c", TRIAL]
    return argv + ["probe"] + [str(index) for index in indices]


def _untried(tool: str, indices: list[int], why: str) -> list[dict[str, Any]]:
    return [{"tool": tool, "index": i, "tried": False, "error": None, "why": why} for i in indices]


def _cuda(indices: list[int]) -> list[dict[str, Any]]:
    """In a process of its own: a broken driver may crash or hang it."""
    import sys

    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cuda_probe.py")
    said = run([sys.executable, "-I", "-S", script] + [str(index) for index in indices], timeout=180)
    answer = own_json(said.out)
    if not isinstance(answer, list):
        error = "the trial ended with code %d: %s" % (
            said.code,
            shown(said.err or said.out or "without a word"),
        )
        answer = [{"index": index, "tried": True, "error": error, "why": ""} for index in indices]
    return [dict(entry, tool="nvidia-smi") for entry in answer]
