"""What Ansible says while it provisions, as flagprov's events and outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flagprov.models.desired import Stage
from flagprov.models.event import Event, EventKind
from flagprov.models.outcome import HostOutcome

STAGE = Stage.PROVISION.label
STEP = "provision"
_REMEDY, _LOG = "\nremedy: ", "\nlog:\n"  # the parts of our roles' messages; see docs/roles.md


@dataclass(slots=True)
class _Progress:
    """One host's way through the playbook so far."""

    began: float
    ended: float
    changes: int = 0
    failed: bool = False
    unreachable: bool = False
    finished: bool = False
    step: str = ""
    message: str = ""


@dataclass(slots=True)
class Listener:
    """Takes ansible-runner's events; `outcomes` says what became of each host."""

    hosts: Sequence[str]
    on_event: Callable[[Event], None]
    inventory: str
    log: str
    clock: Callable[[], float] = time.time
    _progress: dict[str, _Progress] = field(default_factory=dict)

    def begin(self) -> None:
        for host in self.hosts:
            now = self.clock()
            self._progress[host] = _Progress(began=now, ended=now)
            self._tell(host, "started", STEP, "roles")

    def __call__(self, event: Mapping[str, Any]) -> bool:
        """An event_handler of ansible-runner; True keeps the event in the run directory."""
        data = event.get("event_data") or {}
        name = str(event.get("event", ""))
        if name == "playbook_on_stats":
            self._stats(data)
        elif data.get("host") in self._progress:
            self._task(name, str(data["host"]), data)
        return name not in ("runner_on_start", "runner_on_skipped", "verbose")

    def end(self, failure: str = "") -> dict[str, HostOutcome]:
        """Outcome per host; `failure` is why Ansible itself ended, for the hosts that it did not get to."""
        outcomes = {}
        for host, progress in self._progress.items():
            if not progress.finished and not progress.unreachable:
                progress.failed = True
                progress.message = progress.message or failure or "Ansible ended before this host was done"
            outcome = self._outcome(host, progress)
            outcomes[host] = outcome
            if outcome.state in ("failed", "unreachable"):
                self._tell(host, "failed", STEP, f"{outcome.step}: {outcome.message}")
            else:
                self._tell(
                    host, "done", STEP, f"{progress.changes} changed" if progress.changes else "no change"
                )
        return outcomes

    def _task(self, name: str, host: str, data: Mapping[str, Any]) -> None:
        progress, result = self._progress[host], data.get("res") or {}
        step = step_of(data)
        progress.ended = self.clock()
        if name == "runner_on_start":
            self._tell(host, "progress", STEP, step)
        elif name == "runner_on_ok" and result.get("changed"):
            progress.changes += 1
            self._tell(host, "note", step, "changed")
        elif name == "runner_on_failed" and not data.get("ignore_errors"):
            progress.step, progress.message = step, message_of(result)
        elif name == "runner_on_unreachable":
            progress.unreachable = True
            progress.step, progress.message = "connect", message_of(result)

    def _stats(self, data: Mapping[str, Any]) -> None:
        """Only the end tells whether a failure was rescued."""
        for host, progress in self._progress.items():
            progress.finished = host in (data.get("processed") or {})
            progress.failed = host in (data.get("failures") or {})
            progress.unreachable = host in (data.get("dark") or {})
            # Tasks whose result is kept secret do not say that they changed something; the count knows.
            progress.changes = max(progress.changes, int((data.get("changed") or {}).get(host, 0)))

    def _outcome(self, host: str, progress: _Progress) -> HostOutcome:
        seconds = {STAGE: round(progress.ended - progress.began, 3)}
        if not (progress.failed or progress.unreachable):
            return HostOutcome(
                host, "changed" if progress.changes else "unchanged", progress.changes, seconds=seconds
            )
        message, _, log = progress.message.partition(_LOG)
        message, _, remedy = message.partition(_REMEDY)
        return HostOutcome(
            host,
            "unreachable" if progress.unreachable else "failed",
            progress.changes,
            step=progress.step or STEP,
            message=" ".join(message.split()),
            remedy=" ".join(remedy.split()) or self._remedy(message),
            log=log.strip(),
            seconds=seconds,
        )

    def _remedy(self, message: str) -> str:
        for sign, remedy in (
            ("Host key verification failed", f"flagprov trust {self.inventory}"),
            ("REMOTE HOST IDENTIFICATION HAS CHANGED", f"flagprov trust {self.inventory}, once you know why"),
            ("Permission denied (", "check ansible_user and its key for this host"),
            ("Missing sudo password", "set ansible_become_password for this host, in a vault"),
            ("Incorrect sudo password", "correct ansible_become_password for this host"),
            ("is not in the sudoers file", "let the user of ansible_user use sudo on this host"),
        ):
            if sign in message:
                return remedy
        return f"what Ansible said is in {self.log}"

    def _tell(self, host: str, kind: EventKind, step: str, text: str) -> None:
        self.on_event(Event(self.clock(), host, kind, STAGE, step, text))


def step_of(data: Mapping[str, Any]) -> str:
    """`role: task`."""
    return ": ".join(str(data[key]) for key in ("role", "task") if data.get(key))


def message_of(result: Mapping[str, Any]) -> str:
    """Why a task failed, in one piece: of a loop the first failed item, of a program its last words."""
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and item.get("failed"):
            return message_of(item)
    message = str(result.get("msg") or "it failed without a message").strip()
    message = message.removeprefix("Task failed: ").removeprefix("Action failed: ").replace("\r\n", "; ")
    said = str(result.get("stderr") or result.get("module_stderr") or "").strip()
    if said and said not in message:
        message = f"{message}: {' / '.join(said.splitlines()[-3:])}"
    return message
