"""Sends flagprov's host program along with the module, and has one host per share fetch weights."""

from __future__ import annotations

from typing import Any

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.controller import in_turn
from ansible_collections.flagprov.flagprov.plugins.plugin_utils.program import ProgramAction

ELSEWHERE = """weights: they are missing, and flagprov_fetch_on has {named} download them
remedy: run `flagprov deploy`, which brings them from host to host"""


class ActionModule(ProgramAction):
    """Of the module `converge`."""

    module = "converge"

    def _answer(self, variables: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = super()._answer(variables, **more)
        share = answer.pop("lacking", None)
        if share is None:
            return answer
        host, checking = str(variables["inventory_hostname"]), bool(self._task.check_mode)
        named = str(variables.get("flagprov_fetch_on") or host)
        # In a check nobody has fetched what comes by the share.
        if named != host and not (share and checking):
            return {"failed": True, "msg": ELSEWHERE.format(named=named)}
        if checking:
            return answer
        from flagprov.distribute.weights import hub_environment

        with in_turn("fetch", share or f"host {host}"):  # who comes later finds them there
            wanted = [each["spec"].get("fetch") for each in self._task.args["resources"]]
            sources = [fetch["source"] for fetch in wanted if fetch]
            environment = hub_environment(variables, variables["groups"]["all"], sources)
            return super()._answer(variables, environment=environment)
