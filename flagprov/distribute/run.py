"""A transfer under way, as the controller keeps it: who takes part, and the certificates' authority.

A controller that was killed takes it up again, another one lets its hosts join it.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagprov.distribute.certificates import Authority, new_authority, tls_name
from flagprov.distribute.chain import Member, port_of
from flagprov.site import Site

BEAT_S = 3.0
SCHEMA_VERSION = 2
FRESH_S = 15.0  # a file that nobody has touched for longer belongs to a dead controller
OLD_S = 7 * 86400.0


@dataclass(slots=True)
class Run:
    path: Path
    content: str
    authority: Authority
    identities: dict[str, dict[str, str]]
    chain: tuple[Member, ...]
    joined: bool = False  # another controller began it, and is still there
    controller: list[Any] = field(default_factory=lambda: _here())  # machine and process that began it
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        return port_of(self.authority.certificate)

    @property
    def job(self) -> str:
        """The same for everyone who takes part, another for another authority."""
        mark = hashlib.sha256(self.authority.certificate.encode()).hexdigest()[:8]
        return f"transfer-{self.content[:12]}-{mark}"

    def identity(self, member: Member) -> dict[str, str]:
        return self.identities[member.name]

    def finish(self, keep: bool) -> None:
        """Nothing is kept of a transfer that is complete."""
        if not keep and not self.joined:
            self.path.unlink(missing_ok=True)

    def save(self) -> None:
        value = {
            "schema_version": SCHEMA_VERSION,
            "controller": self.controller,
            "content": self.content,
            "certificate": self.authority.certificate,
            "key": self.authority.key,
            "identities": self.identities,
            "members": [[member.name, list(member.addresses), member.site] for member in self.chain],
        }
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(value), encoding="utf-8")
        beside.replace(self.path)

    def _let_go(self) -> None:
        """What is left goes on when it is asked for again, at once."""
        self._over.set()
        if not self.joined:
            stale = time.time() - FRESH_S
            with suppress(FileNotFoundError):
                os.utime(self.path, (stale, stale))

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(FileNotFoundError):  # whoever began it has ended it
                os.utime(self.path)


@contextmanager
def open_run(site: Site, content: str, members: Sequence[Member]) -> Iterator[Run]:
    """The transfer of this content with these hosts in it; what others began is joined at its end."""
    folder = site.root / "transfers"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run = _known(folder / f"{content}.json", content, members) or _new(folder, content, members)
    for member in members:
        if member.name not in run.identities:
            run.identities[member.name] = run.authority.issue(tls_name(member.name), member.addresses)
    run.save()
    beat = threading.Thread(target=run._beat, daemon=True)
    beat.start()
    try:
        yield run
    finally:
        run._let_go()


def _new(folder: Path, content: str, members: Sequence[Member]) -> Run:
    return Run(folder / f"{content}.json", content, new_authority(), {}, tuple(members))


def _known(path: Path, content: str, members: Sequence[Member]) -> Run | None:
    try:
        age = time.time() - path.stat().st_mtime
        stored = json.loads(path.read_text(encoding="utf-8"))
        if age > OLD_S or stored["schema_version"] != SCHEMA_VERSION:
            return None
        authority = Authority(stored["certificate"], stored["key"])
        before = tuple(Member(name, tuple(addresses), site) for name, addresses, site in stored["members"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    wanted = {member.name for member in members}
    fresh = age < FRESH_S and not _ended(*stored["controller"])
    there = {member.name for member in before}
    # A dead controller's hosts that are not asked now may be anywhere: only ours count.
    chain = [member for member in before if fresh or member.name in wanted]
    chain += [member for member in members if member.name not in there]
    known = {member.name: member for member in before}
    identities = {
        name: identity
        for name, identity in stored["identities"].items()
        if name not in wanted or known[name] in members  # addresses have changed: a new certificate
    }
    controller = stored["controller"] if fresh else _here()
    return Run(path, content, authority, identities, tuple(chain), fresh, controller)


def _here() -> list[Any]:
    return [socket.gethostname(), os.getpid()]


def _ended(machine: str, process: int) -> bool:
    """Whether a controller was surely killed: another machine's cannot be seen from here."""
    return machine == socket.gethostname() and not Path(f"/proc/{process}").exists()
