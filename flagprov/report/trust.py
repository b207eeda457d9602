"""Host keys as text and JSON: what each sshd shows, and how that compares with what is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flagprov.errors import HostError
from flagprov.report.plan import problem_lines
from flagprov.report.text import Line, Span, Style, count, line, table


class Key(Protocol):
    """A host key, as the transport has it: this room may not know the transport."""

    @property
    def kind(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


class Contact(Protocol):
    """What one sshd showed."""

    @property
    def host(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def keys(self) -> Sequence[Key]: ...
    @property
    def known(self) -> Sequence[Key]: ...
    @property
    def error(self) -> HostError | None: ...


_WORDS: dict[str, tuple[str, Style]] = {
    "new": ("new", "warn"),
    "same": ("known", "good"),
    "changed": ("CHANGED", "bad"),
    "unexpected": ("not the expected one", "bad"),
    "unlisted": ("not in the file", "bad"),
    "failed": ("no answer", "bad"),
}
COMPARE = "On a host, at its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"


def is_settled(contact: Contact, *, replaced: bool) -> bool:
    """Whether the host's keys may be in known_hosts after this."""
    return contact.state in ("new", "same") or (contact.state == "changed" and replaced)


def of_contacts(contacts: Sequence[Contact], file: str, written: int) -> dict[str, Any]:
    return {
        "file": file,
        "written": written,
        "hosts": [
            {
                "host": contact.host,
                "name": contact.place,
                "state": contact.state,
                "keys": [{"kind": key.kind, "fingerprint": key.fingerprint} for key in contact.keys],
                "known": [{"kind": key.kind, "fingerprint": key.fingerprint} for key in contact.known],
                "message": contact.error.message if contact.error else "",
                "remedy": contact.error.remedy if contact.error else "",
            }
            for contact in contacts
        ],
    }


def contact_lines(contacts: Sequence[Contact], *, width: int | None = None) -> list[Line]:
    """A line per key; below it what was known before, where that differs, and who did not answer."""
    rows: list[list[str | Span]] = []
    for contact in contacts:
        word, style = _WORDS.get(contact.state, (contact.state, ""))
        for key in contact.keys:
            rows.append([contact.host, contact.place, Span(word, style), key.kind, key.fingerprint])
        if contact.state == "changed":
            for key in contact.known:
                rows.append([contact.host, contact.place, Span("was", "faint"), key.kind, key.fingerprint])
    lines = table(rows, header=("host", "address", "state", "key", "fingerprint"), width=width)
    failed = [contact for contact in contacts if contact.error]
    if failed:
        lines += [line(), line(Span("without an answer", "strong"))]
    for contact in failed:
        assert contact.error is not None
        lines += problem_lines(contact.host, contact.error.step, contact.error.message, contact.error.remedy)
    return lines


def result_lines(contacts: Sequence[Contact], file: str, written: int, *, replaced: bool) -> list[Line]:
    said = f"{count(written, 'key')} written to {file}" if written else f"nothing to write into {file}"
    lines = [line(), line(Span(said, "good" if written else ""))]
    states = {contact.state for contact in contacts}
    if "changed" in states and not replaced:
        lines.append(
            line(
                Span("A changed key may be somebody in between.", "bad"),
                " Where you know why it changed, compare it and give --replace.",
            )
        )
    if states & {"unexpected", "unlisted"}:
        lines.append(line("What was not expected is not trusted. ", COMPARE))
    return lines
