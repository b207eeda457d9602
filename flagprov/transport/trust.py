"""First contact: shows the host keys of a fleet, compares them, and writes the site's known_hosts."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flagprov.errors import HostError, UsageError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.transport.connect import Opener
from flagprov.transport.fanout import fan_out
from flagprov.transport.known_hosts import (
    HostKey,
    Known,
    KnownHosts,
    Line,
    known_name,
    matches,
    parse,
    parse_line,
)

KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What `--expect` says of one host: a name or known_hosts patterns, and a fingerprint."""

    patterns: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Contact:
    """One sshd: what it shows, and how that compares with what is known and what is expected."""

    host: str  # name in the inventory; of a jump host its place
    place: str  # its name in known_hosts
    keys: tuple[HostKey, ...] = ()
    known: tuple[HostKey, ...] = ()
    state: str = "new"  # new, same, changed, unexpected, unlisted, failed
    error: HostError | None = None

    @property
    def acceptable(self) -> bool:
        return self.state in ("new", "same")


def trust(
    fleet: Fleet, expect: Sequence[Expected] | None = None, *, replace_changed: bool = False
) -> tuple[Contact, ...]:
    """Looks at all hosts and writes down what may be trusted."""
    contacts = inspect(fleet, expect)
    accept(fleet, contacts, replace_changed=replace_changed)
    return contacts


def inspect(fleet: Fleet, expect: Sequence[Expected] | None = None, fanout: int = 64) -> tuple[Contact, ...]:
    """Asks every sshd of the fleet for its keys, jump hosts first; changes nothing."""
    shown: dict[str, Contact] = {}
    opener = Opener(_Shown(shown))

    def look(hosts: Sequence[Host]) -> list[Contact]:
        found = fan_out(hosts, lambda host: _look(opener, host, shown, expect), fanout)
        return [_contact(host, found[host.name]) for host in hosts]

    try:
        for level in _jumps(fleet.machines):
            shown |= {contact.place: contact for contact in look(level)}
        contacts = look(fleet.machines)
    finally:
        opener.close()
    places = {contact.place for contact in contacts}
    return (*(jump for jump in shown.values() if jump.place not in places), *contacts)


def accept(fleet: Fleet, contacts: Sequence[Contact], *, replace_changed: bool = False) -> int:
    """Writes acceptable keys into the site's known_hosts, changed ones only if asked to; how many lines."""
    file = fleet.site / "known_hosts"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    present = {(line.patterns, line.key) for line in parse(str(file)) if not line.marker}
    added = []
    for contact in contacts:
        if contact.state == "changed" and replace_changed:
            lines = [kept for line in lines if (kept := _without(line, contact.place)) is not None]
            present = {held for held in present if not matches(held[0], contact.place)}
        elif not contact.acceptable:
            continue
        for key in contact.keys:
            if not any(key == other and matches(patterns, contact.place) for patterns, other in present):
                present.add((contact.place, key))
                added.append(f"{contact.place} {key.text} {contact.host}")
    if added:
        _write(file, [*lines, *added])
    return len(added)


def read_expected(path: Path) -> tuple[Expected, ...]:
    """Lines of `HOST SHA256:...`, or of a known_hosts file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "not readable").lower() if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(
            f"{path}: {why}", remedy="Give a file with lines of HOST SHA256:..., or of a known_hosts file."
        ) from error
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.split()
        if not words or words[0].startswith("#"):
            continue
        line = parse_line(raw)
        if line is not None and not line.marker:
            found.append(Expected(line.patterns, line.key.fingerprint))
        elif len(words) >= 2 and words[1].startswith("SHA256:"):
            found.append(Expected(words[0].lower(), words[1].rstrip("=")))
        else:
            raise UsageError(
                f"{path}:{number}: neither `HOST SHA256:FINGERPRINT` nor a line of known_hosts",
                remedy="On the host, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says it.",
            )
    return tuple(found)


class _Shown(KnownHosts):
    """Jump hosts count with the keys that they have just shown, unless these contradict what is known."""

    def __init__(self, shown: Mapping[str, Contact]) -> None:
        super().__init__()
        self._shown = shown

    def lookup(self, connection: Connection) -> Known:
        contact = self._shown.get(known_name(connection))
        if contact is None or not contact.acceptable:
            return super().lookup(connection)
        return Known(tuple(Line("", 0, "", contact.place, key) for key in contact.keys))


def _contact(host: Host, outcome: Contact | HostError) -> Contact:
    if isinstance(outcome, Contact):
        return outcome
    return Contact(host.name, known_name(host.connection), state="failed", error=outcome)


def _jumps(hosts: Sequence[Host]) -> list[list[Host]]:
    """The jump hosts, those first that are reached directly; named as known_hosts names them."""
    levels: dict[int, dict[str, Host]] = {}
    for host in hosts:
        jump = host.connection.proxy
        while jump is not None:
            name = known_name(jump)
            levels.setdefault(_depth(jump), {}).setdefault(name, Host(name, jump))
            jump = jump.proxy
    return [list(levels[depth].values()) for depth in sorted(levels)]


def _depth(connection: Connection) -> int:
    return 0 if connection.proxy is None else 1 + _depth(connection.proxy)


def _look(
    opener: Opener, host: Host, shown: Mapping[str, Contact], expect: Sequence[Expected] | None
) -> Contact:
    connection = _careful(host.connection, shown)
    keys = [opener.host_key(host.name, connection, kinds) for kinds in KINDS]
    found = tuple(key for key in keys if key is not None)
    known = KnownHosts().lookup(connection)
    place = known_name(connection)
    state = _state(found, known)
    if expect is not None:
        names = {host.name.lower(), connection.address.lower(), place}
        wanted = {e.fingerprint for e in expect if any(matches(e.patterns, name) for name in names)}
        listed = tuple(key for key in found if key.fingerprint in wanted)
        if not wanted:
            state = state if state == "changed" else "unlisted"
        elif not listed:
            state = "unexpected"
        else:
            found = listed
    return Contact(host.name, place, found, tuple(line.key for line in known.lines), state)


def _state(keys: Sequence[HostKey], known: Known) -> str:
    revoked = any(line.key in keys for line in known.revoked)
    held = {line.key for line in known.lines}
    kinds = {line.key.kind for line in known.lines}
    if revoked or any(key.kind in kinds and key not in held for key in keys):
        return "changed"
    if held and not held & set(keys):
        return "changed"
    return "same" if set(keys) <= held else "new"


def _careful(connection: Connection, shown: Mapping[str, Contact]) -> Connection:
    """No password goes to a jump host that is not known yet."""
    if connection.proxy is None:
        return connection
    jump = _careful(connection.proxy, shown)
    contact = shown.get(known_name(jump))
    if contact is not None and contact.state != "same":
        jump = replace(jump, password=None)
    return replace(connection, proxy=jump)


def _without(raw: str, place: str) -> str | None:
    """A line of known_hosts without one host; None where nothing is left of it."""
    line = parse_line(raw)
    if line is None or line.marker or not matches(line.patterns, place):
        return raw
    rest = [name for name in line.patterns.split(",") if name.lower() != place]
    if line.patterns.startswith("|1|") or not rest:
        return None
    if len(rest) == len(line.patterns.split(",")):
        return None  # a pattern with wildcards: it must not vouch for the old key any more
    return raw.replace(line.patterns, ",".join(rest), 1)


def _write(file: Path, lines: Sequence[str]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".known_hosts", dir=file.parent)  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            target.write("".join(f"{line}\n" for line in lines))
        Path(temporary).replace(file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
