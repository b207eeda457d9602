"""Hosts of chips that this machine does not have: what each shows before any driver is there."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flagprov.errors import UsageError

FILES = Path(__file__).parent / "files"
HOME = "usr/local/lib/flagprov-lab"
UNIT = "flagprov-lab-hardware.service"
# Before anything that looks at the machine: drivers that play their kernel module, docker, logins.
UNIT_TEXT = f"""[Unit]
Description=Emulated hardware of this host
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/{HOME}/hardware

[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True, slots=True)
class Emulated:
    """A kind of host: a chip, and what a host of it is like."""

    chip: str
    name: str  # hosts are NAME-1, NAME-2, ...
    group: str  # of the inventory, and with lab- its file
    arch: str = "amd64"
    described: Mapping[str, str] = field(default_factory=dict)  # more of /etc/flagprov-emulated


KINDS = (
    Emulated("nvidia-h100", "h100", "h100", described={"DEVICES": "8", "UNHEALTHY": ""}),
    Emulated("ascend-a3", "a3", "ascend", described={"DEVICES": "16", "UNHEALTHY": ""}),
    Emulated("ascend-a2", "a2", "ascend", described={"DEVICES": "8", "UNHEALTHY": ""}),
    Emulated("graviton4", "graviton", "graviton", arch="arm64"),
)
MOST = 10  # of a kind
CHIPS = tuple(kind.chip for kind in KINDS)


@dataclass(frozen=True, slots=True)
class ChipHost:
    """One host of a kind."""

    kind: Emulated
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind.name}-{self.number}"

    @property
    def slot(self) -> int:
        """Its own among all chip hosts, from 1, whichever others there are."""
        return KINDS.index(self.kind) * MOST + self.number


def chip_hosts(chips: Sequence[str]) -> tuple[ChipHost, ...]:
    """A host for each chip that is named; one that is named twice has two."""
    known = {kind.chip: kind for kind in KINDS}
    counts: dict[str, int] = {}
    found = []
    for chip in chips:
        if chip not in known:
            raise UsageError(f"the lab has no hosts of {chip}", remedy=f"--chips takes {', '.join(known)}")
        counts[chip] = counts.get(chip, 0) + 1
        if counts[chip] > MOST:
            raise UsageError(f"{counts[chip]} hosts of {chip} cannot be", remedy=f"a lab has at most {MOST}")
        found.append(ChipHost(known[chip], counts[chip]))
    return tuple(found)


def hardware_files(kind: Emulated) -> dict[str, tuple[bytes, int]]:
    """What is copied into a new host of this kind: path -> content and mode; of a link, where it leads."""
    described = {"CHIP": kind.chip, **kind.described}
    text = "".join(f"{key}={shlex.quote(value)}\n" for key, value in described.items())
    files = {
        "etc/flagprov-emulated": (text.encode(), 0o644),
        f"{HOME}/hardware": ((FILES / "hardware").read_bytes(), 0o755),
        f"etc/systemd/system/{UNIT}": (UNIT_TEXT.encode(), 0o644),
        f"etc/systemd/system/sysinit.target.wants/{UNIT}": (f"../{UNIT}".encode(), stat.S_IFLNK | 0o777),
    }
    processor = FILES / f"processor-{kind.chip}"
    if processor.exists():
        files[f"{HOME}/processor"] = (processor.read_bytes(), 0o644)
    return files
