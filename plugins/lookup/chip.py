"""What flagprov knows of a chip."""

from __future__ import annotations

DOCUMENTATION = """
name: chip
short_description: Roles and pinned versions of a chip, and which drivers its SDKs want
description:
  - Reads the files that flagprov reads, so that both provision alike.
options:
  _terms:
    description: Names of chips, as in C(flagprov_chip). An empty name has nothing of it.
    required: true
notes:
  - flagprov's Python package has to be installed for the Python that runs Ansible.
author: flagprov
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('flagprov.flagprov.chip', 'nvidia-h100').roles }}"
"""

RETURN = """
_raw:
  description: >-
    A mapping for each chip, with the keys C(roles) (in the order in which they run), C(pins), and
    C(sdk_drivers) (version of the vendor's SDK or its beginning to the oldest driver that takes it).
  type: list
  elements: dict
"""

from functools import cache
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.controller import flagprov_package


class LookupModule(LookupBase):
    """`lookup('flagprov.flagprov.chip', NAME)`."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        return [_chip(str(name)) if name else _said({}) for name in terms]


@cache
def _chip(name: str) -> dict[str, Any]:
    folder = flagprov_package() / "chips"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise AnsibleError(f"flagprov_chip: no chip {name!r}\nremedy: name one of {', '.join(known)}")
    chip = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return _said(chip)


def _said(chip: dict[str, Any]) -> dict[str, Any]:
    drivers = (chip.get("health") or {}).get("sdk_drivers")
    return {
        "roles": list(chip.get("roles") or ()),
        "pins": dict(chip.get("pins") or {}),
        "sdk_drivers": dict(drivers or {}),
    }
