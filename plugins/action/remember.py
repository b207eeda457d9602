"""Keeps beside the inventory who serves what; touches no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.controller import (
    flagprov_package,
    inventory_of,
)


class ActionModule(ActionBase):
    """Of the module `remember`."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(
            {
                "hosts": {"type": "list", "elements": "str", "required": True},
                "replicas": {"type": "list", "elements": "dict", "default": []},
                "absent": {"type": "bool", "default": False},
                "release": {"type": "str", "default": ""},
            }
        )
        if self._task.check_mode:
            return result
        flagprov_package()
        from flagprov.plain import forget, remember

        inventory = inventory_of(task_vars or {})
        if given["absent"]:
            forget(inventory, given["release"] or None, given["hosts"])
        else:
            remember(inventory, given["replicas"], given["hosts"])
        return result | {"changed": False}
