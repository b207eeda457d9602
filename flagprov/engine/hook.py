"""A plugin of vLLM (entry point group `vllm.general_plugins`): in every process it only registers a hook.

vLLM loads it in API server, engine core and workers alike. Importing FlagGems makes a context on the
current device, so it happens in workers alone, right after their device is set.
Standard library only, Python 3.8; it runs with the python3 of any image.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, Callable, Optional

from . import switch

# Where vLLM keeps the class through which every executor drives a worker: now, and before 0.11.
TARGETS = ("vllm.v1.worker.worker_base", "vllm.worker.worker_base")
CLASS = "WorkerWrapperBase"
# vllm-plugin-FL enables FlagGems itself, and asks this function which operators to leave out.
FL = ("vllm_fl.utils", "vllm_fl.worker.worker")
FL_LISTS = "get_flag_gems_whitelist_blacklist"
MARK = "_flagprov_hooked"


def register() -> None:
    """The entry point; without a configuration of ours it does nothing."""
    if not os.environ.get(switch.CONFIG):
        return
    for name in (*TARGETS, *FL):
        if name in sys.modules:
            hook(sys.modules[name])
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


class Finder:
    """Hooks modules at the moment when somebody imports them."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in TARGETS and name not in FL:
            return None
        for other in sys.meta_path:
            find = None if other is self else getattr(other, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                _hook_when_executed(spec.loader)
                return spec
        return None


def _hook_when_executed(loader: Any) -> None:
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: Any) -> None:
        execute(module)
        hook(module)

    loader.exec_module = exec_module  # of this instance; its type stays what others expect


def hook(module: Any) -> None:
    """Wrap what sets a worker's device up; a second time changes nothing."""
    lists = getattr(module, FL_LISTS, None)
    if lists is not None and not hasattr(lists, MARK):
        setattr(module, FL_LISTS, _with_ours(lists))
    wrapper = getattr(module, CLASS, None)
    if wrapper is None or MARK in vars(wrapper):
        return
    if "init_device" in vars(wrapper):
        wrapper.init_device = _after(wrapper.init_device)
    elif "execute_method" in vars(wrapper):  # vLLM before 0.8 asks the worker itself, through this
        wrapper.execute_method = _after(wrapper.execute_method, "init_device")
    else:
        return
    setattr(wrapper, MARK, True)


def _with_ours(lists: Callable[[], Any]) -> Callable[[], Any]:
    """Our operators beside those that the plugin leaves out by itself; a variable would replace its list."""

    @functools.wraps(lists)
    def both() -> Any:
        only, without = lists()
        ours = [str(name) for name in switch.read_config().get("leave_out", ())]
        if only:
            return [name for name in only if name not in ours], without
        return only, sorted({*(without or ()), *ours}) or None

    setattr(both, MARK, True)
    return both


def _after(function: Callable[..., Any], only: Optional[str] = None) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(self, *args, **kwargs)
        if only is None or (args[:1] or (kwargs.get("method"),)) == (only,):
            switch.device_is_set(getattr(self, "worker", None))
        return result

    return call
