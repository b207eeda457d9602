#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Resources of flagprov on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: converge
short_description: Bring flagprov's resources to a host
description:
  - Looks at the resources with flagprov's host program, and applies what differs.
  - The comparison is the one that C(flagprov) itself makes; there is no other.
options:
  resources:
    description: What the host is to have, from the lookup P(flagprov.flagprov.desired#lookup).
    type: list
    elements: dict
    required: true
  holder:
    description: Who changes the host and by which command, for others that want to at the same time.
    type: dict
    default: {}
  deployment:
    description: What the host writes into its history of deployments. Nothing is written without it.
    type: dict
  start:
    description: Set by the action plugin.
    type: str
  archive:
    description: Set by the action plugin.
    type: str
  forget:
    description: Set by the action plugin.
    type: path
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode).
    support: full
author: flagprov (@flagprov)
"""

EXAMPLES = r"""
- name: Bring the weights
  become: true
  flagprov.flagprov.converge:
    resources: "{{ state.hosts[inventory_hostname].resources | selectattr('stage', 'eq', 'weights') }}"
"""

RETURN = r"""
changes:
  description: What differed, each with kind, name, stage, action, reason and cost.
  returned: success
  type: list
  elements: dict
notes:
  description: What resources have to tell (an image's facts, an endpoint's state), by resource.
  returned: success
  type: dict
steps:
  description: What was done.
  returned: success
  type: list
  elements: str
seconds:
  description: Time that each stage took.
  returned: when something was changed
  type: dict
"""

import binascii
import contextlib
import os
import time

from ansible_collections.flagprov.flagprov.plugins.module_utils.program import (
    ARGUMENTS,
    HostProgram,
    Missing,
    QuietModule,
    Refused,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEASE_S = 60.0


def main() -> None:
    """Entry point."""
    module = QuietModule(
        argument_spec=dict(
            ARGUMENTS,
            resources={"type": "list", "elements": "dict", "required": True},
            holder={"type": "dict", "default": {}},
            deployment={"type": "dict"},
        ),
        supports_check_mode=True,
    )
    try:
        with HostProgram(module) as program:
            answer = converge(program, module)
    except Missing:
        module.exit_json(program_missing=True)
    except Refused as error:
        module.fail_json(msg=str(error))
    module.exit_json(**answer)


def converge(program: HostProgram, module: QuietModule) -> dict[str, Any]:
    """Look, and apply what differs unless this is only a check."""
    resources = module.params["resources"]
    seen = program.ask({"op": "look", "resources": resources})
    for problem in seen["problems"]:
        raise Refused(problem)
    changes = seen["changes"]
    answer = {"changed": bool(changes), "changes": changes, "notes": seen["notes"], "steps": []}
    answer["diff"] = {"prepared": "".join(f"{_line(change)}\n" for change in changes)}
    if module.check_mode or not changes:
        return answer
    lease = dict(module.params["holder"], token=binascii.hexlify(os.urandom(16)).decode(), ttl_s=LEASE_S)
    lease.setdefault("since", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    lease.setdefault("holder", "ansible")
    lease.setdefault("command", "converge")
    request = {
        "op": "converge",
        "resources": resources,
        "digest": seen["digest"],
        "lease": lease,
        "deployment": module.params["deployment"],
    }
    try:
        done = program.ask(request)
    finally:
        with contextlib.suppress(Refused):  # it ended; the lease runs out by itself
            program.ask({"op": "lease", "do": "release", "token": lease["token"]})
    return dict(answer, notes=done["notes"], seconds=done["seconds"], steps=program.steps)


def _line(change: dict[str, Any]) -> str:
    cost = "" if change["cost"] in ("", "nothing") else f" [{change['cost']}]"
    return f"{change['action']} {change['name']}: {change['reason']}{cost}"


if __name__ == "__main__":
    main()
