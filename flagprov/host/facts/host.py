"""Collectors of what has nothing to do with accelerators."""

from __future__ import annotations

import json
import os

from flagprov.host.facts import Unparsed
from flagprov.host.facts import system as parse
from flagprov.host.facts.devices import maker, numa_nodes
from flagprov.host.machine import holder, listening, memory_mib, read
from flagprov.host.shell import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# File systems that another machine holds; a look into one may never come back.
NETWORK = tuple("nfs cifs smb3 ceph lustre gpfs beegfs glusterfs 9p virtiofs fuse.".split())
NOT_STORAGE = frozenset(
    "proc sysfs tmpfs devtmpfs devpts cgroup cgroup2 mqueue hugetlbfs nsfs overlay squashfs tracefs debugfs "
    "securityfs pstore bpf configfs fusectl autofs binfmt_misc ramfs rpc_pipefs efivarfs fuse.lxcfs "
    "fuse.portal".split()
)
OF_THE_SYSTEM = ("/etc/", "/var/lib/docker/", "/run/", "/snap/", "/proc/", "/sys/")
PATIENCE_S = 5


def system() -> dict[str, Any]:
    release = parse.os_release(read("/etc/os-release"))
    name = os.uname()
    return {
        "name": release.get("PRETTY_NAME") or None,
        "id": release.get("ID") or None,
        "version": release.get("VERSION_ID") or None,
        "kernel": name.release,
        "arch": name.machine,
        "machine": maker() or None,
        "memory_mib": memory_mib() or None,
    }


def processor() -> dict[str, Any]:
    """/proc/cpuinfo, and lscpu where there is one."""
    found = parse.cpuinfo(read("/proc/cpuinfo"))
    said = run(["env", "LC_ALL=C", "lscpu"], timeout=20)
    more = parse.lscpu(said.out) if not said.code else {}
    return {
        "name": more.get("model") or found["name"],
        "cpus": found["cpus"] or os.cpu_count(),
        "features": found["features"],
        "sockets": more.get("sockets"),
        "cores_per_socket": more.get("cores_per_socket"),
        "threads_per_core": more.get("threads_per_core"),
        "numa_nodes": numa_nodes() or None,
    }


def docker() -> dict[str, Any]:
    from flagprov.host import docker as engine

    version = engine.call("GET", "/version", timeout=20)
    info = engine.call("GET", "/info", timeout=20)
    root = str(info["DockerRootDir"])
    status = os.statvfs(root)
    return {
        "version": str(version["Version"]),
        "arch": str(version.get("Arch", "")),
        "root": root,
        "free_mib": (status.f_bavail * status.f_frsize) >> 20,
        "total_mib": (status.f_blocks * status.f_frsize) >> 20,
        "storage": str(info.get("Driver", "")),
        "runtimes": sorted(info.get("Runtimes") or {}),
        "default_runtime": str(info.get("DefaultRuntime", "")),
        "cgroup_driver": str(info.get("CgroupDriver", "")),
        "live_restore": bool(info.get("LiveRestoreEnabled")),
    }


def mounts() -> list[dict[str, str]]:
    """Storage: disks and network file systems, without what docker and the kernel mount for themselves."""
    return [
        {key: mount[key] for key in ("point", "source", "type", "options")}
        for mount in parse.mounts(read("/proc/self/mountinfo"))
        if mount["type"] not in NOT_STORAGE and not mount["point"].startswith(OF_THE_SYSTEM)
    ]


def paths(wanted: list[str]) -> list[dict[str, Any]]:
    """For each path: the mount that it lies under, what is to be mounted there, and whether it answers."""
    names = [path.rstrip("/") or "/" for path in wanted]
    looks = [_look_into(path) for path in names]  # first: a look mounts what is mounted on demand
    table = parse.mounts(read("/proc/self/mountinfo"))
    boot = parse.fstab(read("/etc/fstab"))
    return [dict(_lies_under(path, table, boot), **look) for path, look in zip(names, looks)]


def _lies_under(path: str, table: list[dict[str, str]], boot: dict[str, str]) -> dict[str, Any]:
    over = [mount for mount in table if _under(path, mount["point"])]
    mount = max(over, key=lambda each: len(each["point"])) if over else None
    planned = max((point for point in boot if point != "/" and _under(path, point)), key=len, default="")
    return {
        "path": path,
        "point": mount["point"] if mount else None,
        "source": mount["source"] if mount else None,
        "type": mount["type"] if mount else None,
        "read_only": "ro" in mount["options"].split(",") if mount else None,
        "network": bool(mount) and str(mount and mount["type"]).startswith(NETWORK),
        "planned_point": planned or None,
        "planned_source": boot.get(planned),
    }


def _look_into(path: str) -> dict[str, Any]:
    """In a process of its own that can be given up: a network file system may hang."""
    said = run(["stat", "-f", "-c", "%a %b %S", path], timeout=PATIENCE_S)
    words = [int(word) for word in said.out.split() if word.isdecimal()]
    found: dict[str, Any] = {"exists": not said.code, "answers": said.code != 124}
    found.update(empty=None, free_mib=None, total_mib=None)
    if not said.code and len(words) == 3:
        found.update(free_mib=words[0] * words[2] >> 20, total_mib=words[1] * words[2] >> 20)
        said = run(["find", path, "-maxdepth", "0", "-type", "d", "-empty"], timeout=PATIENCE_S)
        found["empty"] = None if said.code else bool(said.out)
    return found


def _under(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def clock() -> dict[str, Any]:
    """From the tool that keeps the time here."""
    said = run(["chronyc", "-n", "tracking"], timeout=PATIENCE_S)
    if not said.code:
        return parse.chrony(said.out)
    said = run(["timedatectl", "show"], timeout=PATIENCE_S)
    if said.code:
        raise Unparsed("neither chronyc nor timedatectl answers")
    found = parse.timedatectl(said.out)
    if found["synchronized"]:
        status = run(["timedatectl", "timesync-status"], timeout=PATIENCE_S)
        try:
            found["offset_s"] = None if status.code else parse.timesync(status.out)
        except Unparsed:
            pass  # another service keeps the time
    return found


def interfaces() -> list[dict[str, Any]]:
    """Network interfaces that reach other machines."""
    base = "/sys/class/net"
    said = run(["ip", "-json", "address"], timeout=PATIENCE_S)
    addresses = parse.addresses(said.out) if not said.code else {}
    found = []
    for name in sorted(os.listdir(base)):
        folder = os.path.join(base, name)
        own = os.path.exists(folder + "/device") or not os.path.exists(folder + "/brport")
        if name == "lo" or not own or os.path.exists(folder + "/bridge"):
            continue
        speed, mtu = read(folder + "/speed").strip(), read(folder + "/mtu").strip()
        found.append(
            {
                "name": name,
                "state": read(folder + "/operstate").strip() or None,
                "mtu": int(mtu) if mtu.isdecimal() else None,
                "speed_mbps": int(speed) if speed.isdecimal() and speed != "0" else None,
                "addresses": addresses.get(name, []) if not said.code else None,
            }
        )
    return found


def ports(wanted: list[int]) -> list[dict[str, Any]]:
    taken = listening()
    return [{"port": p, "holder": holder(p) if p in taken else None} for p in wanted]


def own_json(text: str) -> Any:
    """The last line of a program of ours, which is JSON."""
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None
