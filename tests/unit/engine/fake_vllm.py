"""A small vLLM, torch and FlagGems on disk: three processes, plugins loaded where the real one loads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PLUGINS = """
import os
from importlib.metadata import entry_points
loaded = False
def load_general_plugins():
    global loaded
    if loaded:
        return
    loaded = True
    allowed = os.environ["VLLM_PLUGINS"].split(",") if "VLLM_PLUGINS" in os.environ else None
    found = entry_points()
    group = "vllm.general_plugins"
    for point in found.select(group=group) if hasattr(found, "select") else found.get(group, ()):
        if allowed is None or point.name in allowed:
            point.load()()
"""
# The wrapper as vLLM has it; the worker loads plugins itself, so they come after its module.
WRAPPER = """
from vllm.plugins import load_general_plugins
class Worker:
    rank = 0
    device = None
    def init_device(self):
        self.device = "cuda:0"
    def load_model(self):
        pass
class WorkerWrapperBase:
    def init_worker(self):
        load_general_plugins()
        self.worker = Worker()
    def __getattr__(self, name):
        return getattr(self.worker, name)
"""
INIT_DEVICE = """
    def init_device(self):
        self.worker.init_device()
"""
EXECUTE_METHOD = """
    def execute_method(self, method, *args):
        return getattr(self.worker, method)(*args)
"""
# API server -> engine core -> worker, each a new interpreter; each says whether it has imported FlagGems.
SERVE = """
import json, os, subprocess, sys
def say(role):
    print(json.dumps({"role": role, "pid": os.getpid(), "imported": "flag_gems" in sys.modules}), flush=True)
def run(role):
    from vllm.plugins import load_general_plugins
    if role != "worker":
        load_general_plugins()
        if role == "core":
            import MODULE  # as the real one does, and no worker of it
        code = subprocess.call([sys.executable, "-m", "vllm.serve", {"api": "core", "core": "worker"}[role]])
        say(role)
        sys.exit(code)
    from MODULE import WorkerWrapperBase
    wrapper = WorkerWrapperBase()
    wrapper.init_worker()
    before = "flag_gems" in sys.modules
    wrapper.CALL
    wrapper.worker.load_model()
    say(role)
    assert not before
run(sys.argv[1])
"""
TORCH = """
class Library:
    def __init__(self, *args): pass
    def impl(self, name, function, key=""):
        if name == "broken":
            raise RuntimeError("no such operator")
"""
GEMS = """
import torch.library
class Registrar:
    def __init__(self, unused):
        self.keys = []
        def named(name):
            def function(): pass
            function.__name__ = name
            return function
        library = torch.library.Library("aten", "IMPL")
        for key, name in (("mul.Tensor", "mul"), ("mm", "mm"), ("_softmax", "softmax"), ("broken", "broken")):
            if name in unused:
                continue
            self.keys.append(key)
            try:
                library.impl(key, named(name), "CUDA")
            except RuntimeError:
                pass
    def get_all_keys(self):
        return self.keys
current_work_registrar = None
def enable(lib=None, unused=None, record=False):
    global current_work_registrar
    current_work_registrar = Registrar(unused or ())
"""
PATCHED = """
import os
if os.environ.get("USE_FLAGGEMS") == "1":
    import flag_gems
    flag_gems.enable(unused=["mm"])
"""
METADATA = "Metadata-Version: 2.1\nName: flag_gems\nVersion: 5.0.2\n"


# vllm-plugin-FL: its list comes from its own configuration, its worker enables FlagGems as it is made.
FL_UTILS = """
import os
def get_flag_gems_whitelist_blacklist():
    only = os.environ.get("VLLM_FL_FLAGOS_WHITELIST")
    return (only.split(","), None) if only else (None, ["mm"])
"""
FL_WORKER = """
from vllm_fl.utils import get_flag_gems_whitelist_blacklist
def enable():
    import flag_gems
    only, without = get_flag_gems_whitelist_blacklist()
    names = ("mul", "mm", "softmax", "broken")
    flag_gems.enable(unused=[n for n in names if n not in only] if only else without)
"""


def packages(
    *, old: bool = False, patched: bool = False, fl: bool = False, gems: str | None = GEMS
) -> Mapping[str, str]:
    """Files of site packages; `old` is vLLM before 0.8, `patched` FlagScale's, `fl` with its plugin."""
    module = "vllm.worker.worker_base" if old else "vllm.v1.worker.worker_base"
    call = 'execute_method("init_device")' if old else "init_device()"
    wrapper = WRAPPER + (EXECUTE_METHOD if old else INIT_DEVICE)
    if patched:
        wrapper = wrapper.replace('        self.device = "cuda:0"', "        import vllm.patched")
    if fl:
        made = "import vllm_fl.worker.worker; vllm_fl.worker.worker.enable(); self.worker = Worker()"
        wrapper = wrapper.replace("self.worker = Worker()", made)
    files = {
        "vllm_fl/utils.py": FL_UTILS,
        "vllm_fl/worker/worker.py": FL_WORKER,
        "vllm/plugins.py": PLUGINS,
        "vllm/patched.py": PATCHED,
        "vllm/serve.py": SERVE.replace("MODULE", module).replace("CALL", call),
        module.replace(".", "/") + ".py": wrapper,
        "torch/library.py": TORCH,
    }
    if gems is not None:
        files["flag_gems/__init__.py"] = gems
        files["flag_gems-5.0.2.dist-info/METADATA"] = METADATA
    return files


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(directory).parents:
            if parent.name and path.suffix == ".py":
                (directory / parent / "__init__.py").touch()
