"""Host keys that we know: OpenSSH's known_hosts files, the site's own first."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flagprov.models.fleet import Connection


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public host key as the SSH protocol carries it."""

    kind: str  # ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa, ...
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -lf` shows it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def text(self) -> str:
        """Type and base64, as in known_hosts."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a known_hosts file."""

    file: str
    number: int
    marker: str
    patterns: str
    key: HostKey


@dataclass(frozen=True, slots=True)
class Known:
    """What the files say of one host."""

    lines: tuple[Line, ...] = ()
    revoked: tuple[Line, ...] = ()
    authority: Line | None = None
    elsewhere: tuple[Line, ...] = ()  # the same host without its port: good for a match, never for a mismatch

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.key.kind for line in (*self.lines, *self.elsewhere)))

    def verdict(self, key: HostKey) -> str:
        """known, new, changed or revoked."""
        if any(line.key == key for line in self.revoked):
            return "revoked"
        if any(line.key == key for line in (*self.lines, *self.elsewhere)):
            return "known"
        return "changed" if self.lines else "new"


class KnownHosts:
    """Reads each file once; safe to be used from several threads."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Line, ...]] = {}

    def lookup(self, connection: Connection) -> Known:
        """The first file that has an entry for the host decides; a revoked key is revoked by any file."""
        name = known_name(connection)
        found: tuple[Line, ...] = ()
        plain: tuple[Line, ...] = ()
        revoked: list[Line] = []
        authority = None
        for file in connection.known_hosts:
            lines = self._load(file)
            matching = [line for line in lines if matches(line.patterns, name)]
            revoked += [line for line in matching if line.marker == "@revoked"]
            found = found or tuple(line for line in matching if not line.marker)
            authority = authority or next(
                (line for line in matching if line.marker == "@cert-authority"), None
            )
            if name.startswith("["):
                address = connection.address.lower()
                plain = plain or tuple(x for x in lines if not x.marker and matches(x.patterns, address))
        return Known(found, tuple(revoked), authority, () if found else plain)

    def _load(self, file: str) -> tuple[Line, ...]:
        if file not in self._files:
            self._files[file] = tuple(parse(file))
        return self._files[file]


def known_name(connection: Connection) -> str:
    """How known_hosts names a host: its alias, its address, or [address]:port."""
    if connection.host_key_alias:
        return connection.host_key_alias.lower()
    return address_name(connection.address, connection.port)


def address_name(address: str, port: int) -> str:
    return address.lower() if port == 22 else f"[{address.lower()}]:{port}"


def parse(file: str) -> Iterable[Line]:
    """The lines of a known_hosts file; what cannot be read is left out, as OpenSSH does."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for number, raw in enumerate(text.splitlines(), 1):
        line = parse_line(raw, file, number)
        if line is not None:
            yield line


def parse_line(raw: str, file: str = "", number: int = 0) -> Line | None:
    words = raw.split()
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if len(words) < 3:
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return Line(file, number, marker, words[0], HostKey(words[1], blob))


def matches(patterns: str, name: str) -> bool:
    """Whether the first field of a known_hosts line stands for a host."""
    if patterns.startswith("|1|"):
        try:
            salt, digest = (base64.b64decode(part) for part in patterns.split("|")[2:4])
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)
    found = False
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        if _fits(pattern.lstrip("!"), name):
            if negated:
                return False
            found = True
    return found


def _fits(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return pattern == name
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
