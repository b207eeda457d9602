"""What a container is created with on a host that lacks what is optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flagprov.host.resources.container import effective


def test_optional_mounts_and_devices_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    there, away = str(tmp_path), str(tmp_path / "away")
    host = {
        "Mounts": [{"Source": path, "Target": path} for path in (there, away, "/needed")],
        "Devices": [{"PathOnHost": path, "PathInContainer": path} for path in (away, "/dev/needed")],
    }
    spec: dict[str, Any] = {"create": {"HostConfig": host}, "optional_sources": [there, away]}
    found = effective(spec)["HostConfig"]
    assert [mount["Source"] for mount in found["Mounts"]] == [there, "/needed"]
    # docker refuses a device that is not there: "error gathering device information"
    assert [device["PathOnHost"] for device in found["Devices"]] == ["/dev/needed"]
