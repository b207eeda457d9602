"""FlagGems for real, through the code path of our plugin: run where there is a GPU, torch and flag_gems.

    python -m pytest tests/gpu -q      (torch and flag_gems in that Python; nothing else of flagprov's tests)

A small causal language model computes the same tokens with torch's own operators and with FlagGems', and the
operators that were replaced are those that torch really calls. Each side is a process of its own, since
FlagGems cannot be switched off again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flagprov.runner.operators import CONFIG, _plugin_texts

# Plugin and hook as vLLM uses them: the entry point first, then a worker whose device gets set.
CHILD = '''
import importlib.metadata, json, os, sys, types
import torch

on = sys.argv[1] == "on"
base = types.ModuleType("vllm.v1.worker.worker_base")
class WorkerWrapperBase:
    worker = types.SimpleNamespace(rank=0, device=None)
    def init_device(self):
        torch.cuda.set_device(0)
        self.worker.device = torch.device("cuda:0")
base.WorkerWrapperBase = WorkerWrapperBase
sys.modules[base.__name__] = base
if on:
    (point,) = [each for each in importlib.metadata.entry_points(group="vllm.general_plugins")
                if each.name == "flagprov_operators"]
    point.load()()
imported_early = "flag_gems" in sys.modules
early = torch.cuda.is_initialized()
WorkerWrapperBase().init_device()

def small_model():
    """A Qwen3 of transformers with random weights; a plain block where there is no transformers."""
    try:
        from transformers import Qwen3Config, Qwen3ForCausalLM
        sizes = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, head_dim=64, vocab_size=1024)
        return Qwen3ForCausalLM(Qwen3Config(**sizes, attn_implementation="eager")), lambda out: out.logits
    except ImportError:
        layers = torch.nn.TransformerEncoderLayer(256, 4, 512, batch_first=True, dropout=0.0)
        parts = [torch.nn.Embedding(1024, 256), layers, torch.nn.Linear(256, 1024)]
        return torch.nn.Sequential(*parts), lambda out: out

torch.manual_seed(7)
model, logits = small_model()
tokens = torch.randint(0, 1024, (2, 32))
model = model.eval().to("cuda", torch.float32)
with torch.no_grad():
    from torch.utils._python_dispatch import TorchDispatchMode
    called = set()
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            called.add(str(function).replace("aten.", "").replace(".default", ""))
            return function(*args, **(kwargs or {}))
    with Watch():
        out = logits(model(tokens.to("cuda"))).float().cpu()
print(json.dumps({
    "early": early, "imported_early": imported_early, "imported": "flag_gems" in sys.modules,
    "best": out.argmax(-1).flatten().tolist(), "head": out.flatten()[:512].tolist(), "called": sorted(called),
    "gpu": torch.cuda.get_device_name(0), "torch": torch.__version__,
}))
'''
PRESENT = "import torch, flag_gems; assert torch.cuda.is_available(), 'torch sees no GPU'"


def compute(tmp_path: Path, on: bool) -> dict[str, Any]:
    for name, text in dict(_plugin_texts()).items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    orders = {"schema_version": 1, "mode": "enable", "leave_out": ["exponential_", "softmax"]}
    (tmp_path / "conf" / CONFIG).write_text(json.dumps(orders))
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "conf/engine"), "FLAGPROV_RUN": str(tmp_path / "run")}
    if on:
        env["FLAGPROV_OPERATORS"] = str(tmp_path / "conf" / CONFIG)
    done = subprocess.run(
        [sys.executable, str(script), "on" if on else "off"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    done = subprocess.run([sys.executable, "-c", PRESENT], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no GPU with torch and flag_gems here: {done.stderr.strip().splitlines()[-1]}")


def test_the_same_answers_with_other_operators(tmp_path: Path) -> None:
    native, gems = compute(tmp_path, on=False), compute(tmp_path, on=True)
    assert not native["imported"]
    assert (gems["early"], gems["imported_early"], gems["imported"]) == (False, False, True)
    (path,) = (tmp_path / "run/operators").glob("*.json")
    record = json.loads(path.read_text())
    assert (record["flaggems"], record["device"]) == ("on", "cuda:0")
    assert record["count"] > 50
    assert not {"_softmax", "exponential_"} & set(record["operators"])
    used = set(gems["called"]) & set(record["operators"])
    assert used, "the model calls none of the replaced operators"
    same = sum(a == b for a, b in zip(native["best"], gems["best"], strict=True))
    assert same >= 0.95 * len(native["best"])
    assert max(abs(a - b) for a, b in zip(native["head"], gems["head"], strict=True)) < 0.05
    print(f"{gems['gpu']}, torch {gems['torch']}, FlagGems {record['version']}: {record['count']} operators")
    print(f"replaced and called: {', '.join(sorted(used))}; {same}/{len(native['best'])} tokens the same")
