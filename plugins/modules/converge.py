#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Resources of flagprov on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: converge
short_description: Bring flagprov's resources to a host
description:
  - Looks at the resources with flagprov's host program, and applies what differs.
  - Weights that are missing are downloaded from the hub or web server which the release names, by each host
    for itself, and once where several hosts mount the same share.
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
  environment:
    description: Set by the action plugin, what hubs' clients need of the controller's environment.
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
            environment={"type": "dict"},
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
    seen = _look(program, resources)
    changes = seen["changes"]
    lacking = _lacking(resources, changes)
    answer = {"changed": bool(changes), "changes": changes, "notes": seen["notes"], "steps": []}
    answer["diff"] = {"prepared": "".join(f"{_line(change)}\n" for change in changes)}
    if lacking and module.params["environment"] is None:  # the controller knows who is to fetch
        return dict(answer, lacking=program.ask({"op": "reach", "path": lacking[0]["path"]})["storage"])
    if module.check_mode or not changes:
        return answer
    lease = dict(module.params["holder"], token=binascii.hexlify(os.urandom(16)).decode(), ttl_s=LEASE_S)
    lease.setdefault("since", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    lease.setdefault("holder", "ansible")
    lease.setdefault("command", "converge")
    request = {
        "op": "converge",
        "resources": resources,
        "lease": lease,
        "deployment": module.params["deployment"],
    }
    try:
        for spec in lacking:
            _fetch(program, spec, module.params["environment"], lease)
        digest = (_look(program, resources) if lacking else seen)["digest"]
        restarts = [
            each["name"] for each in changes if (each["kind"], each["action"]) == ("probe", "restart")
        ]
        done = program.ask(dict(request, digest=digest, restarts=restarts))
    finally:
        with contextlib.suppress(Refused):  # it ended; the lease runs out by itself
            program.ask({"op": "lease", "do": "release", "token": lease["token"]})
    return dict(answer, notes=done["notes"], seconds=done["seconds"], steps=program.steps)


def _look(program: HostProgram, resources: list[dict[str, Any]]) -> dict[str, Any]:
    seen = program.ask({"op": "look", "resources": resources})
    for problem in seen["problems"]:
        raise Refused(problem)
    return seen


def _lacking(resources: list[dict[str, Any]], changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Weights that this host can fetch; what hosts get from each other is refused."""
    specs = {(each["kind"], each["name"]): each["spec"] for each in resources}
    found = []
    for change in changes:
        spec = specs[change["kind"], change["name"]]
        if change["action"] == "bring":
            message = f"{change['name']} is not here, and flagprov_images=fan-out"
            remedy = "run `flagprov deploy`, which brings it from host to host"
            raise Refused({"step": change["kind"], "message": message, "remedy": remedy})
        if change["action"] == "build":
            message = f"{change['name']} is not here: {change['reason']}"
            remedy = "run `flagprov deploy`, which builds it"
            raise Refused({"step": change["kind"], "message": message, "remedy": remedy})
        if change["action"] != "fetch":
            continue
        source = spec["fetch"]["source"]
        if "://" not in source or source.startswith("file://"):
            remedy = f"{spec['remedy']}, or run `flagprov deploy`, which does"
            raise Refused({"step": change["kind"], "message": change["reason"], "remedy": remedy})
        found.append(spec)
    return found


def _fetch(
    program: HostProgram, spec: dict[str, Any], environment: dict[str, Any], lease: dict[str, Any]
) -> None:
    wish = dict(spec["fetch"], path=spec["path"], files=spec.get("files"), environment=environment)
    try:
        program.ask({"op": "fetch", "spec": wish, "lease": lease})
    except Refused as error:
        raise error.otherwise("run `flagprov deploy`, which downloads on the controller") from None
    program.steps.append(f"fetch {spec['fetch']['source']}")


def _line(change: dict[str, Any]) -> str:
    cost = "" if change["cost"] in ("", "nothing") else f" [{change['cost']}]"
    return f"{change['action']} {change['name']}: {change['reason']}{cost}"


if __name__ == "__main__":
    main()
