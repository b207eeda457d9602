"""What a host is provisioned with, in one word."""

from __future__ import annotations

DOCUMENTATION = """
name: fingerprint
short_description: Fingerprint of what provisioning brings to a host
description:
  - The same that C(flagprov deploy) computes from the roles, the host's variables for them and the files
    which these name, so that neither provisions again what the other has provisioned.
  - Empty, with a warning, where flagprov cannot read the inventory; the host then counts as not provisioned.
options:
  _terms:
    description: Names of hosts.
    required: true
notes:
  - flagprov's Python package has to be installed for the Python that runs Ansible.
author: flagprov
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('flagprov.flagprov.fingerprint', inventory_hostname) }}"
"""

RETURN = """
_raw:
  description: A fingerprint for each host.
  type: list
  elements: str
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.controller import (
    flagprov_package,
    inventory_of,
    once,
)


class LookupModule(LookupBase):
    """`lookup('flagprov.flagprov.fingerprint', HOST)`."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        flagprov_package()
        inventory = inventory_of(variables or {})
        extra = dict(load_extra_vars(self._loader))  # they count for the roles as the inventory's do
        known = once("fingerprints", [str(inventory), sorted(extra)], lambda: _all(inventory, extra))
        return [known.get(str(host), "") for host in terms]


def _all(inventory: Path, extra: dict[str, Any]) -> dict[str, str]:
    try:
        from flagprov.apply.provision import fingerprint
        from flagprov.errors import FlagprovError
        from flagprov.fleet import load_fleet
    except ImportError as error:
        raise AnsibleError(
            f"flagprov's Python package is not complete: {error}\nremedy: install it again (docs/ansible.md)"
        ) from error
    try:
        hosts = load_fleet(inventory, reach=False).hosts
    except FlagprovError as error:
        Display().warning(f"flagprov will provision these hosts again: {error.message}")
        return {}
    return {host.name: fingerprint(replace(host, variables={**host.variables, **extra})) for host in hosts}
