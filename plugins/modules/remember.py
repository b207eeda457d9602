#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Who serves what, beside the inventory; all of it is in the action plugin."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remember
short_description: Keep beside the inventory who serves what
description:
  - Writes into the site's directory, C(.flagprov) beside the inventory, as C(flagprov deploy) does, so that
    replicas on hosts which do not answer are still counted, and their names not given away.
  - Touches no host, and nothing at all in check mode.
options:
  hosts:
    description: Hosts on which all went well.
    type: list
    elements: str
    required: true
  replicas:
    description: The release's replicas, from the lookup P(flagprov.flagprov.desired#lookup).
    type: list
    elements: dict
    default: []
  absent:
    description: Forget the replicas of these hosts instead.
    type: bool
    default: false
  release:
    description: With O(absent), the release; all where it is empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
author: flagprov (@flagprov)
"""

EXAMPLES = r"""
- name: Remember who serves what
  flagprov.flagprov.remember:
    replicas: "{{ state.replicas }}"
    hosts: "{{ ansible_play_hosts }}"
  run_once: true
"""

RETURN = r"""#"""
