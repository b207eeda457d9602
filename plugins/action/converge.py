"""Sends flagprov's host program along with the module."""

from __future__ import annotations

from ansible_collections.flagprov.flagprov.plugins.plugin_utils.program import ProgramAction


class ActionModule(ProgramAction):
    """Of the module `converge`."""

    module = "converge"
