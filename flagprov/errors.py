"""The one tree of errors.

A message names the file and key, or the host and step, and the way out; nothing else reaches a user.
"""

from __future__ import annotations


class FlagprovError(Exception):
    """Base of everything that flagprov raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class UsageError(FlagprovError):
    """Wrong input: found before any host is touched."""

    exit_code = 2


class ReleaseError(UsageError):
    """A release or chip file is wrong, or does not exist."""


class InventoryError(UsageError):
    """The inventory is wrong, empty, or names what does not exist."""


class SettingsError(UsageError):
    """A setting or a --set does not fit the release."""


class VersionError(UsageError):
    """A stored file or a host's record was written by a newer flagprov."""


class HostError(FlagprovError):
    """Something about one host; carried as that host's outcome, never as the end of a run."""

    def __init__(self, host: str, step: str, message: str, *, remedy: str = "", log: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.host = host
        self.step = step
        self.log = log

    def __str__(self) -> str:
        return f"{self.host}, {self.step}: {super().__str__()}"


class UnreachableError(HostError):
    """The host did not answer; unreachable is not failed."""


class NewerError(HostError, VersionError):
    """A host has state of a newer flagprov; nobody goes on beside it."""


class LabError(FlagprovError):
    """The embedded fleet could not be built or started."""
