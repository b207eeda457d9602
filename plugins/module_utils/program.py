# Apache License 2.0 (see LICENSE)
"""The host program, started by a module and asked as the controller asks it over SSH."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess

from ansible.module_utils.basic import AnsibleModule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What the action plugins add to a task's arguments.
ARGUMENTS = {
    "start": {"type": "str", "required": True},
    "archive": {"type": "str"},
    "forget": {"type": "path"},
}


class QuietModule(AnsibleModule):
    """Its arguments may hold secrets of a release: they stay out of the host's log; results are shown."""

    def _log_invocation(self) -> None:
        """Without `no_log`, which would hide results, too."""


class Refused(Exception):
    """The program's own words about why it cannot."""

    def __init__(self, error: dict[str, Any]) -> None:
        self._error = error
        step = f"{error['step']}: " if error.get("step") else ""
        remedy = f"\nremedy: {error['remedy']}" if error.get("remedy") else ""
        log = f"\nlog:\n{error['log']}" if error.get("log") else ""
        super().__init__(f"{step}{error['message']}{remedy}{log}")

    def otherwise(self, remedy: str) -> Refused:
        """With one more way out."""
        first = self._error.get("remedy")
        return Refused(dict(self._error, remedy=f"{first}, or {remedy}" if first else remedy))


class Missing(Exception):
    """The program is not on this host yet."""


class HostProgram:
    """A running host program; ends with the block."""

    def __init__(self, module: Any) -> None:
        self.steps: list[str] = []
        self._parameters = module.params
        self._started = False

    def __enter__(self) -> HostProgram:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", self._parameters["start"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self._parameters["archive"]:
            self._write(base64.b64decode(self._parameters["archive"]))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        if self._parameters["forget"]:
            shutil.rmtree(self._parameters["forget"], ignore_errors=True)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The result of a request; what was done on the way is added to `steps`."""
        if not self._started:
            self._check_start()
        self._write(json.dumps(request).encode() + b"\n")
        while True:
            line = self._line()
            if "error" in line:
                raise Refused(line["error"])
            if "result" in line:
                result: dict[str, Any] = line["result"]
                return result
            event = line.get("event") or {}
            if event.get("kind") in ("started", "note", "failed"):
                self.steps.append(": ".join(part for part in (event["step"], event["text"]) if part))

    def _check_start(self) -> None:
        line = self._line()
        if line.get("stub") == "missing":
            raise Missing
        if line.get("stub") != "ready":
            why = line.get("error") or f"Python 3.8 or later is needed, found {line.get('version', 'none')}"
            raise Refused({"message": f"flagprov's program does not start: {why}"})
        self._started = True

    def _line(self) -> dict[str, Any]:
        data = self._process.stdout.readline()  # type: ignore[union-attr]
        if not data:
            said = self._process.stderr.read().decode(errors="replace")  # type: ignore[union-attr]
            raise Refused({"message": "flagprov's program ended before its result", "log": said[-4000:]})
        line: dict[str, Any] = json.loads(data)
        return line

    def _write(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            pass  # it has ended: what it said last is read next
