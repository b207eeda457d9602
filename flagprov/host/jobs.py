"""Work that may outlive a connection: a transient systemd unit, its events in a file.

An exec starts a job or attaches to it by name; a controller that died finds it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time

from flagprov.host.files import replace
from flagprov.host.shell import run, unit_state
from flagprov.host.wire import Blocked, progress, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "/var/lib/flagprov/jobs"
RUNS = ("active", "activating")
LITTLE = 1 << 20  # free bytes with which nothing can be said any more

# Kind of job -> module and function. A function that yields gives its result and then works on.
KINDS = {
    "pull": ("flagprov.host.pull", "pull"),
    "load": ("flagprov.host.oci", "load"),
    "build": ("flagprov.host.build", "build"),
    "transfer": ("flagprov.host.transfer.job", "transfer"),
    "fetch": ("flagprov.host.fetch", "fetch"),
    "hash": ("flagprov.host.transfer.job", "hash_deep"),
}


def name_of(kind: str, spec: dict[str, Any]) -> str:
    text = json.dumps([kind, spec], sort_keys=True)
    return "%s-%s" % (kind, hashlib.sha256(text.encode()).hexdigest()[:12])


def run_job(kind: str, spec: dict[str, Any], name: str = "", state: str = "") -> dict[str, Any]:
    """Start the job unless it runs already, then follow it to its result; `state` where it was just asked."""
    name = name or name_of(kind, spec)
    state = state or state_of(name)
    if state not in RUNS:
        _start(name, kind, spec, state)
    return attach(name)


def state_of(name: str) -> str:
    """As systemd says; `inactive` where it knows no such unit."""
    return str(unit_state(unit_of(name)).get("ActiveState") or "inactive")


def unit_of(name: str) -> str:
    return "flagprov-job-%s.service" % name


def _start(name: str, kind: str, spec: dict[str, Any], state: str) -> None:
    folder = os.path.join(ROOT, name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    replace(os.path.join(folder, "spec.json"), json.dumps({"kind": kind, "spec": spec}).encode(), 0o600)
    replace(os.path.join(folder, "events"), b"", 0o600)
    program = sys.path[0]
    code = "import sys; sys.path.insert(0, %r); from flagprov.host.jobs import main; main(%r)" % (
        program,
        name,
    )
    unit = unit_of(name)
    if state == "failed":
        run(["systemctl", "reset-failed", unit], timeout=20)
    argv = ["systemd-run", "--quiet", "--collect", "--no-block", "--unit", unit]
    argv += ["--description", "flagprov job %s" % name, sys.executable, "-I", "-S", "-c", code]
    answer = run(argv, timeout=60)
    if answer.code:
        raise Blocked(kind, "systemd-run: %s" % answer.err.strip(), "flagprov needs systemd on the host")


def attach(name: str) -> dict[str, Any]:
    """Pass the job's events on until it has a result."""
    path = os.path.join(ROOT, name, "events")
    idle = 0
    with open(path, "rb") as stream:
        while True:
            line = stream.readline()
            if line.endswith(b"\n"):
                idle = 0
                message = json.loads(line.decode("utf-8"))
                if "result" in message:
                    return dict(message["result"])
                if "error" in message:
                    raise Blocked(**message["error"])
                progress(str(message["event"]["text"]), message["event"]["data"])
                continue
            stream.seek(-len(line), os.SEEK_CUR)  # half a line: its writer is not done with it
            idle += 1
            if idle % 20 == 0 and state_of(name) not in RUNS:
                if idle >= 40:
                    raise _ended(name)
            time.sleep(0.1)


def _ended(name: str) -> Blocked:
    status = os.statvfs(ROOT)
    if status.f_bfree * status.f_frsize < LITTLE:
        message = "%s: the file system is full, the job could not say how it ended" % ROOT
        return Blocked(name, message, "free space there, then run again: what has arrived is kept")
    remedy = "run again: what has arrived is kept; journalctl -u %s may say why" % unit_of(name)
    return Blocked(name, "the job was killed: it ended without a result", remedy)


def main(name: str) -> None:
    """The transient unit's program: do the work, write every event into the file."""
    folder = os.path.join(ROOT, name)
    with open(os.path.join(folder, "spec.json"), encoding="utf-8") as stream:
        job = json.load(stream)
    with open(os.path.join(folder, "events"), "a", encoding="utf-8", buffering=1) as sys.stdout:
        try:
            if job["kind"] not in KINDS:
                raise Blocked(name, "unknown kind of job: %s" % job["kind"])
            module, function = KINDS[job["kind"]]
            outcome = getattr(__import__(module, fromlist=[function]), function)(job["spec"])
            if isinstance(outcome, dict):
                send({"result": outcome})
                return
            for result in outcome:
                send({"result": result})
        except Blocked as problem:
            send({"error": problem.wire()})
        except Exception as error:
            send({"error": Blocked(name, "%s: %s" % (type(error).__name__, error)).wire()})
