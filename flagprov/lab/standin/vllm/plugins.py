"""Plugins in the entry point group `vllm.general_plugins`, loaded as the real one does: once per process."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, entry_points

GROUP = "vllm.general_plugins"
loaded = False


def general_plugins() -> list[EntryPoint]:
    """Those that are there and that VLLM_PLUGINS allows."""
    allowed = os.environ["VLLM_PLUGINS"].split(",") if "VLLM_PLUGINS" in os.environ else None
    return [point for point in entry_points(group=GROUP) if allowed is None or point.name in allowed]


def load_general_plugins() -> None:
    global loaded
    if not loaded:
        loaded = True
        for point in general_plugins():
            point.load()()
