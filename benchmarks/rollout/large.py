"""A look at very many hosts: time and memory beside the floor's; nothing is lost where some are silent."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from process import FLAGPROV, SCRATCH, Figures, row, run
from simulated import PORT, Simulated, simulated

HERE = Path(__file__).parent


def looks(count: int, repeat: int) -> Iterator[dict[str, Any]]:
    """Lines of rollout.json: the floor, flagprov, and flagprov with every tenth host silent."""
    with simulated(SCRATCH / "simulated", count) as hosts:
        floor, status = _floor(hosts), _status(hosts, "all", hosts.addresses)
        for command in (floor, status):  # sends the program, and reads the inventory with Ansible
            run(command)
        yield row("floor", f"status-{count}", count, [run(floor) for _ in range(repeat)])
        found = [run(status) for _ in range(repeat)]
        for each in found:
            _check(each, 0)
        yield row("flagprov", f"status-{count}", count, found) | _flat(found[-1])
        found = [run(_status(hosts, "silent", hosts.some_silent()), codes=(1,)) for _ in range(2)][1:]
        _check(found[0], len(hosts.silent))
        yield row("flagprov", f"status-{count}-silent", count, found) | _flat(found[0])


def _floor(hosts: Simulated) -> list[str]:
    work = hosts.folder / "work.json"
    known = [{"name": a, "address": a, "port": PORT, "user": "root"} for a in hosts.addresses]
    work.write_text(json.dumps(known))
    program = str(HERE / "floor.py")
    return [sys.executable, program, str(work), str(hosts.key), str(hosts.known_hosts), "probe"]


def _status(hosts: Simulated, name: str, addresses: tuple[str, ...] | list[str]) -> list[str]:
    inventory = hosts.inventory(name, addresses)
    return [*FLAGPROV, "status", str(inventory), "--quiet", "--output", "json"]


def _check(found: Figures, silent: int) -> None:
    """Every host is in the answer, and as many as do not answer are said to be unreachable."""
    hosts = json.loads(found.said)["hosts"]
    away = sum(host["state"] == "unreachable" for host in hosts)
    well = sum(host["state"] == "unchanged" for host in hosts)
    if (away, well) != (silent, len(hosts) - silent):
        states = [f"{host['host']}: {host['message']}" for host in hosts if host["state"] == "failed"]
        sys.exit("\n".join([f"{well} answered, {away} are unreachable; {silent} should be", *states[:10]]))


def _flat(found: Figures) -> dict[str, Any]:
    """Memory over the run, in four parts: it may not grow with the hosts that were asked already."""
    seen = found.memory_mib
    parts = [seen[len(seen) * n // 4 : len(seen) * (n + 1) // 4] for n in range(4)]
    return {"rss_mib_over_time": [round(statistics.median(part), 1) for part in parts if part]}
