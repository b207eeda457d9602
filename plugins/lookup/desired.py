"""What hosts are to have for a release."""

from __future__ import annotations

DOCUMENTATION = """
name: desired
short_description: What each host is to have for a release
description:
  - Reads the inventory of this run, places the release's replicas on its hosts, and says which resources each
    host needs for them, as C(flagprov deploy) does; the module M(flagprov.flagprov.converge) brings these.
  - What an image is, as far as hosts tell it in O(notes), is kept in the site's directory, C(.flagprov)
    beside the inventory.
options:
  _terms:
    description: One release, a name of the catalog or a file. With O(absent), an empty one means all.
    required: true
  surveys:
    description: What M(flagprov.flagprov.ask) answered, by host. Hosts without a survey are left out.
    type: dict
    required: true
  facts:
    description: Facts that M(flagprov.flagprov.ask) answered, by host; hosts with facts are examined.
    type: dict
    default: {}
  force:
    description: Checks whose failures do not leave a host out, as with C(flagprov deploy --force).
    type: list
    elements: str
    default: []
  notes:
    description: Notes of M(flagprov.flagprov.converge) about images, by host.
    type: dict
    default: {}
  set:
    description: Settings for this deployment only, as with C(flagprov deploy --set).
    type: list
    elements: str
    default: []
  absent:
    description: What takes the release away instead.
    type: bool
    default: false
  weights:
    description: With O(absent), its weights too.
    type: bool
    default: false
notes:
  - flagprov's Python package has to be installed for the Python that runs Ansible.
author: flagprov
"""

EXAMPLES = """
- ansible.builtin.set_fact:
    state: "{{ lookup('flagprov.flagprov.desired', 'qwen3-4b', surveys={'host1': survey.answer}) }}"
"""

RETURN = """
_raw:
  description:
    - One mapping. C(hosts) has for each host its C(resources), what is C(pending) (an image has to be looked
      into first) and a C(problem) if it cannot serve; C(replicas) who serves what; C(deployment) is for the
      hosts' history.
  type: list
  elements: dict
"""

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.controller import (
    flagprov_package,
    inventory_of,
)


class LookupModule(LookupBase):
    """`lookup('flagprov.flagprov.desired', RELEASE, surveys=..., notes=...)`."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        release = str(terms[0]) if terms else ""
        absent = bool(self.get_option("absent"))
        if not release and not absent:
            raise AnsibleError("no release is named\nremedy: -e release=NAME; `flagprov releases` lists them")
        limit = (variables or {}).get("ansible_limit")
        return [self._state(release, inventory_of(variables or {}), str(limit) if limit else None, absent)]

    def _state(self, release: str, inventory: Path, limit: str | None, absent: bool) -> dict[str, Any]:
        flagprov_package()
        try:
            from flagprov.errors import FlagprovError
            from flagprov.plain import desired_state, removed_state
            from flagprov.preparation import Request
        except ImportError as error:
            raise AnsibleError(
                f"flagprov's Python package is not complete: {error}\n"
                "remedy: install it again (docs/ansible.md)"
            ) from error
        sets = tuple(str(text) for text in self.get_option("set"))
        force = tuple(str(text) for text in self.get_option("force"))
        request = Request(inventory, release or None, limit, sets, force, reach=False)
        surveys, facts, notes = (_plain(self.get_option(name)) for name in ("surveys", "facts", "notes"))
        try:
            if absent:
                state = removed_state(request, surveys, weights=bool(self.get_option("weights")))
            else:
                state = desired_state(request, surveys, facts, notes, Display().display)
        except FlagprovError as error:
            remedy = f"\nremedy: {error.remedy}" if error.remedy else ""
            raise AnsibleError(f"{error.message}{remedy}") from error
        plain: dict[str, Any] = json.loads(json.dumps(state))
        return plain


def _plain(value: Any) -> Any:
    """Without Ansible's tags and lazy containers."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)
