"""Where the work is done: some hosts of the lab, or one of them behind a long way."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from process import ROOT, SCRATCH

INVENTORY = ROOT / "inventory" / "lab.ini"
ROUND_TRIP_MS = 40
RELAY = ("127.0.0.1", 2240)


@dataclass(frozen=True)
class Place:
    name: str
    inventory: Path
    hosts: tuple[str, ...]

    @property
    def known_hosts(self) -> Path:
        return self.inventory.parent / ".flagprov" / "known_hosts"

    @property
    def key(self) -> Path:
        return INVENTORY.parent / ".flagprov" / "lab_key"

    def work_file(self, state: str) -> Path:
        return SCRATCH / f"work-{self.name}-{state}.json"

    def ansible(self, state: str) -> Path:
        return SCRATCH / f"inventory-{self.name}-{state}.json"

    def write(self, state: str, hosts: list[dict[str, Any]]) -> None:
        self.work_file(state).write_text(json.dumps(hosts))
        names = {
            host["name"]: {
                "ansible_host": host["address"], "ansible_port": host["port"], "ansible_user": "root",
                "ansible_ssh_private_key_file": str(self.key),
                "ansible_ssh_extra_args": f"-o UserKnownHostsFile={self.known_hosts}",
                "work": host,
            }
            for host in hosts
        }  # fmt: skip
        self.ansible(state).write_text(json.dumps({"all": {"hosts": names}}))


def lab(size: int) -> Place:
    """A fleet of the first hosts of the lab, with everything that is known of them."""
    text = INVENTORY.read_text()
    names = re.findall(r"^(\S+) ansible_host=", text, re.MULTILINE)
    folder = SCRATCH / f"fleet-{size}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(
        INVENTORY.parent / ".flagprov", folder / ".flagprov", ignore=shutil.ignore_patterns("runs")
    )
    for name in names[size:]:
        text = re.sub(rf"^{re.escape(name)} ansible_host=.*\n", "", text, flags=re.MULTILINE)
    inventory = folder / "lab.ini"
    inventory.write_text(text)
    return Place(str(size), inventory, tuple(names[:size]))


@contextlib.contextmanager
def far_away(near: Place) -> Iterator[Place]:
    """The same host with everything that is known of it, behind a relay."""
    (name,) = near.hosts
    folder = SCRATCH / "far"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(near.known_hosts.parent, folder / ".flagprov", ignore=shutil.ignore_patterns("runs"))
    text = near.inventory.read_text()
    found = re.search(rf"^{re.escape(name)} ansible_host=(\S+)$", text, re.MULTILINE)
    assert found, text
    address, port = found[1], 22
    text = re.sub(r"^\S+ ansible_host=\S+\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ansible_port=.*\n", "", text, flags=re.MULTILINE)
    here = f"{name} ansible_host={RELAY[0]} ansible_port={RELAY[1]}\n"
    inventory = folder / "lab.ini"
    inventory.write_text(re.sub(r"^\[[^:\]]+\]\n", lambda group: group[0] + here, text, count=1, flags=re.M))
    keys = [
        line.split()[1:3] for line in near.known_hosts.read_text().splitlines() if line.split()[0] == address
    ]
    place = Place("far", inventory, near.hosts)
    place.known_hosts.write_text("".join(f"[{RELAY[0]}]:{RELAY[1]} {kind} {key}\n" for kind, key in keys))
    relay = [sys.executable, Path(__file__).with_name("relay.py"), *RELAY, address, port, ROUND_TRIP_MS]
    with subprocess.Popen(list(map(str, relay)), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield place
        finally:
            process.kill()
