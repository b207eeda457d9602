"""Facts of hosts as a table per host, and what differs between hosts that should be alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flagprov.errors import HostError, UnreachableError
from flagprov.models.facts import HostFacts, Nvidia, PathFacts, Processor
from flagprov.models.observed import Device
from flagprov.report.json import SCHEMA_VERSION, plain
from flagprov.report.plan import problem_lines
from flagprov.report.text import Line, Span, count, line, names, natural, table

Answers = Mapping[str, HostFacts | HostError]


def facts_lines(answers: Answers, chips: Mapping[str, str], *, width: int | None = None) -> list[Line]:
    """`chips`: what is to be said of each host's chip."""
    lines: list[Line] = []
    for name in sorted(answers, key=natural):
        found = answers[name]
        lines += [line()] if lines else []
        if isinstance(found, HostError):
            what = "unreachable" if isinstance(found, UnreachableError) else found.step
            lines += problem_lines(name, what, found.message, found.remedy, found.log)
        else:
            rows: list[list[str | Span]] = [[Span("chip", "faint"), chips.get(name, "unknown")]]
            rows += [[Span(title, "faint"), text] for title, text in _rows(found)]
            lines += [line(Span(name, "strong")), *table(rows, indent=2, width=width)]
    known = {name: found for name, found in answers.items() if isinstance(found, HostFacts)}
    different = list(_differences(known))
    if different:
        lines += [line(), line(Span("not the same on all hosts", "strong")), *different]
    return lines


def of_facts(answers: Answers, chips: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """`chips`: those that nothing contradicts."""
    known = {
        name: {"chips": list(chips.get(name, ())), **plain(found)}
        for name, found in answers.items()
        if isinstance(found, HostFacts)
    }
    silent = {
        name: {
            "step": found.step,
            "message": found.message,
            "remedy": found.remedy,
            "unreachable": isinstance(found, UnreachableError),
        }
        for name, found in answers.items()
        if isinstance(found, HostError)
    }
    return {"schema_version": SCHEMA_VERSION, "hosts": known, "silent": silent}


def _rows(facts: HostFacts) -> Iterable[tuple[str, str]]:
    if facts.system:
        system = facts.system
        told = [system.name or "unknown OS", f"kernel {system.kernel}", system.arch, system.machine or ""]
        yield "system", ", ".join(part for part in told if part)
    if facts.processor:
        cpu = facts.processor
        told = [cpu.name or "unknown", *_counted(cpu), _size(_memory(facts))]
        yield "processor", ", ".join(told)
    for tool, devices in sorted(facts.devices.items()):
        if tool != "cpuinfo":
            yield from _devices(tool, devices, facts.device_errors.get(tool, ""))
    yield from _drivers(facts)
    if facts.docker:
        engine = facts.docker
        room = f"{_size(engine.free_mib)} of {_size(engine.total_mib)} free in {engine.root}"
        yield "docker", f"{engine.version}, {engine.storage}, {room}"
    for path in facts.paths or ():
        yield "path", f"{path.path}: {_path(path)}"
    yield "clock", _clock(facts)
    for each in facts.interfaces or ():
        speed = f"{each.speed_mbps / 1000:g} Gbit/s" if each.speed_mbps else "speed unknown"
        where = ", ".join(each.addresses or ()) or "no address"
        yield "interface", f"{each.name} {each.state or 'unknown'}, {speed}, MTU {each.mtu or '?'}, {where}"
    for port in facts.rdma.ports if facts.rdma else ():
        rate = f"{port.rate_gbps:g} Gbit/s" if port.rate_gbps else "speed unknown"
        on = f" ({', '.join(port.interfaces)})" if port.interfaces else ""
        yield "rdma", f"{port.name}{on} {port.state or 'unknown'}, {rate}, {port.link_layer or 'unknown'}"
    for fact, why in facts.unknown.items():
        yield "unknown", f"{fact}: {why}"


def _counted(cpu: Processor) -> Iterable[str]:
    for number, noun in ((cpu.cpus, "CPU"), (cpu.sockets, "socket"), (cpu.numa_nodes, "NUMA node")):
        yield count(number, noun) if number else f"{noun}s unknown"


def _memory(facts: HostFacts) -> int | None:
    return facts.system.memory_mib if facts.system else None


def _size(mib: int | None) -> str:
    if mib is None:
        return "unknown size"
    return f"{mib / 1024:.0f} GiB" if mib >= 10240 else f"{mib / 1024:.1f} GiB"


def _devices(tool: str, devices: Sequence[Device], error: str) -> Iterable[tuple[str, str]]:
    """A line for devices that are alike, numbered, and one for each that has something to say."""
    alike: dict[tuple[str, int | None, str], list[Device]] = defaultdict(list)
    for device in devices:
        alike[(device.name, device.memory_mib, device.health)].append(device)
    for (name, memory, health), group in alike.items():
        indices = names(str(device.index) for device in group)
        yield tool, f"{len(group)} x {name}, {_size(memory)}, {health} ({indices})"
    for device in devices:
        if device.processes:
            used = f"{_size(device.used_mib)} used by " if device.used_mib is not None else "used by "
            yield tool, f"{device.index}: {used}{', '.join(device.processes)}"
    if error:
        yield tool, error


def _drivers(facts: HostFacts) -> Iterable[tuple[str, str]]:
    nvidia, ascend = facts.nvidia, facts.ascend
    if nvidia:
        yield "driver", _nvidia(nvidia)
        for what, why in nvidia.errors.items():
            yield "driver", f"{what}: {why}"
    if ascend:
        firmware = f", firmware {ascend.firmware}" if ascend.firmware else ""
        reported = ascend.table.version if ascend.table else None
        yield "driver", f"on disk {ascend.driver or 'none'}, reported {reported or 'none'}{firmware}"
        for what, why in ascend.errors.items():
            yield "driver", f"{what}: {why}"


def _nvidia(nvidia: Nvidia) -> str:
    kind = " open" if nvidia.loaded and nvidia.loaded.open else ""
    loaded = f"{nvidia.loaded.version}{kind}" if nvidia.loaded else "none"
    reported = (nvidia.report and nvidia.report.driver) or "none"
    takes = f", takes CUDA up to {nvidia.report.cuda}" if nvidia.report and nvidia.report.cuda else ""
    return f"loaded {loaded}, on disk {nvidia.on_disk or 'none'}, reported {reported}{takes}"


def _path(path: PathFacts) -> str:
    if not path.answers:
        return f"{path.source or 'its mount'} does not answer"
    if path.planned_point and path.planned_point != path.point:
        return f"not mounted; /etc/fstab has {path.planned_source} there"
    if not path.exists:
        return "not there"
    if path.point == "/":
        return f"on the root file system{', empty' if path.empty else ''}, {_size(path.free_mib)} free"
    at = "" if path.point == path.path else f" at {path.point}"
    return f"{path.source} ({path.type}){at}, {_size(path.free_mib)} free"


def _clock(facts: HostFacts) -> str:
    if facts.clock is None:
        told = "unknown"
    elif not facts.clock.synchronized:
        told = f"not synchronized, says {facts.clock.tool}"
    else:
        off = "" if facts.clock.offset_s is None else f", {facts.clock.offset_s:+.3f} s off its source"
        told = f"synchronized{off}, says {facts.clock.tool}"
    if facts.clock_offset_s is not None:
        side = "ahead of" if facts.clock_offset_s > 0.05 else "behind"
        told += f"; {abs(facts.clock_offset_s):.1f} s {side} this controller"
    return told


def _differences(known: Mapping[str, HostFacts]) -> Iterable[Line]:
    """Mounts of one path that are not of one source, MTUs, engines and drivers that differ."""
    seen: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, facts in known.items():
        for path in facts.paths or ():
            where = path.source if path.network and path.source else _kind(path)
            seen[path.path][where].append(name)
        if facts.docker:
            seen["docker"][facts.docker.version].append(name)
        if facts.nvidia and facts.nvidia.loaded:
            seen["NVIDIA driver"][facts.nvidia.loaded.version].append(name)
        if facts.ascend and facts.ascend.driver:
            seen["Ascend driver"][facts.ascend.driver].append(name)
        for each in facts.interfaces or ():
            if each.addresses and each.mtu:
                seen["MTU"][str(each.mtu)].append(name)
    for what, values in seen.items():
        if len(values) > 1:
            told = "; ".join(f"{value} on {names(hosts)}" for value, hosts in values.items())
            yield line(Span(what, "warn"), f": {told}", indent=2)


def _kind(path: PathFacts) -> str:
    return "a local directory" if path.exists else "not there"
