#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""One question to flagprov's host program."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ask
short_description: Ask flagprov's host program what a host is and has
description:
  - Sends the program to the host once, where it is kept by its hash, as C(flagprov) does.
  - Never changes anything. In check mode the program is not kept either.
options:
  op:
    description: What is asked.
    type: str
    choices: [survey, facts, status]
    required: true
  payload:
    description: More of the request, as the operation wants it.
    type: dict
    default: {}
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
author: flagprov (@flagprov)
"""

EXAMPLES = r"""
- name: Survey the host
  become: true
  flagprov.flagprov.ask:
    op: survey
  register: survey
"""

RETURN = r"""
answer:
  description: The program's answer, with C(answered), the time here when it came in.
  returned: success
  type: dict
"""


from ansible_collections.flagprov.flagprov.plugins.module_utils.program import (
    ARGUMENTS,
    HostProgram,
    Missing,
    QuietModule,
    Refused,
)


def main() -> None:
    """Entry point."""
    module = QuietModule(
        argument_spec=dict(
            ARGUMENTS,
            op={"type": "str", "required": True, "choices": ["survey", "facts", "status"]},
            payload={"type": "dict", "default": {}},
        ),
        supports_check_mode=True,
    )
    try:
        with HostProgram(module) as program:
            answer = program.ask(dict(module.params["payload"], op=module.params["op"]))
    except Missing:
        module.exit_json(program_missing=True)
    except Refused as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, answer=answer)


if __name__ == "__main__":
    main()
