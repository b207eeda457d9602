"""Action plugins of the modules that talk with flagprov's host program: they send it where it is missing."""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import replace
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.controller import flagprov_package, once


class ProgramAction(ActionBase):
    """Runs the module of the same name, and once more with the program where the host does not have it."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    module = ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result | self._answer(task_vars or {})

    def _answer(self, variables: dict[str, Any], **more: Any) -> dict[str, Any]:
        python = str(variables.get("ansible_python_interpreter") or "")
        python = python if python.startswith("/") else ""
        answer = self._ask(variables, more | {"start": self._program(python)["run"]})
        if answer.pop("program_missing", False):
            answer = self._ask(variables, more | self._with_program(python))
        answer.pop("invocation", None)  # the whole desired state, and perhaps the program
        if isinstance(answer.get("answer"), dict):
            answer["answer"]["answered"] = time.time()  # the host's clock is compared with ours
        return answer

    def _ask(self, variables: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        arguments = self._task.args | {"archive": None, "forget": None} | more
        answer: dict[str, Any] = self._execute_module(
            module_name=f"flagprov.flagprov.{self.module}", module_args=arguments, task_vars=variables
        )
        return answer

    def _with_program(self, python: str) -> dict[str, Any]:
        """In check mode it is put in a place from where it goes again."""
        base = f"/run/flagprov-check-{secrets.token_hex(8)}" if self._task.check_mode else ""
        program = self._program(python, base)
        return {"start": program["install"], "archive": program["archive"], "forget": base or None}

    def _program(self, python: str, base: str = "") -> dict[str, str]:
        return once("program", [python, base], lambda: _program(python, base))


def _program(python: str, base: str) -> dict[str, str]:
    flagprov_package()
    from flagprov.transport.program import host_program

    program = replace(host_program(), base=base) if base else host_program()
    archive = program.archive()
    return {
        "run": program.run_command(python or None),
        "install": program.install_command(python or None, len(archive)),
        "archive": base64.b64encode(archive).decode(),
    }
