"""Which chip a host is of, by what its own tools say."""

from __future__ import annotations

from collections.abc import Mapping

from flagprov.models.chip import Chip
from flagprov.models.facts import HostFacts
from flagprov.placement import mismatch


def detected(facts: HostFacts, chips: Mapping[str, Chip]) -> tuple[str, ...]:
    """Chips that nothing contradicts; the lab's own only where there is no other."""
    machine = (facts.system and facts.system.machine) or ""
    arch = facts.system.arch if facts.system else ""
    fitting = [
        chip
        for chip in chips.values()
        if facts.devices.get(chip.detection.tool)
        and (not chip.detection.arch or arch in chip.detection.arch)
        and not mismatch(chip.detection, facts.devices[chip.detection.tool], machine)
    ]
    real = [chip.name for chip in fitting if not chip.emulated_only]
    return tuple(real or [chip.name for chip in fitting])
