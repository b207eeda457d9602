"""The embedded fleet: hosts with real sshd, systemd and docker on this machine."""

from __future__ import annotations

from flagprov.lab.fleet import LabStatus, clean, down, ssh_command, status, up
from flagprov.lab.hosts import LabHost

__all__ = ["LabHost", "LabStatus", "clean", "down", "ssh_command", "status", "up"]
