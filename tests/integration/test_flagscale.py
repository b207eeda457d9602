"""A rendered directory, the real launcher and the real FlagScale, with the stand-in engine under it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import serve_environment
from launch_inputs import facts, inputs
from launching import Running, launched

from flagprov.host.launcher_processes import command_line, descendants, is_front, processes
from flagprov.models.desired import Replica
from flagprov.runner.render import render

READY = "Application startup complete."
LAYOUTS = ("experiment.runner.deploy", "experiment.deploy")


@pytest.fixture(scope="session")
def path() -> str:
    return str(serve_environment.serve_python().parent)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models/tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"num_attention_heads": 4}')
    return folder


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


@contextmanager
def serving(tmp_path: Path, path: str, model: Path | str, port: int, **changes: Any) -> Iterator[Running]:
    replica = Replica("qwen3-tiny-0", "qwen3-tiny", "cpu-x86", ("lab1",), (0,), port)
    serve = {"served_model_name": "tiny", "host": "127.0.0.1"} | changes.pop("serve", {})
    values: dict[str, Any] = {"replica": replica, "model_path": str(model), "stop_grace_s": 20}
    with launched(tmp_path, path=path, files=render(inputs(serve=serve, **values | changes))) as running:
        yield running


def pid_of(running: Running, what: str) -> int:
    """A process of the running engine: its front, or by a word of its command line."""
    for pid in descendants(running.process.pid, processes()):
        argv = command_line(pid)
        shell = argv[:1] == ["bash"]
        if is_front(argv) if what == "front" else not shell and any(what in word for word in argv[:4]):
            return pid
    raise AssertionError(f"no {what} runs")


def complete(port: int, tokens: int = 4) -> dict[str, Any]:
    body = {"model": "tiny", "max_tokens": tokens, "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=30)
    return dict(answer.raise_for_status().json())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_serves_and_stops(tmp_path: Path, path: str, model: Path, port: int, layout: str) -> None:
    with serving(tmp_path, path, model, port, facts=facts(flagscale_deploy=layout)) as running:
        running.until(READY)
        assert complete(port)["usage"]["completion_tokens"] == 4
        front = pid_of(running, "front")
        running.process.terminate()
        assert running.finish() == 0
    assert running.state()["phase"] == "ended"
    assert command_line(front) == []


@pytest.mark.parametrize("victim", ["front", "VLLM::EngineCore", "run_inference_engine"])
def test_a_dead_process_is_the_end(tmp_path: Path, path: str, model: Path, port: int, victim: str) -> None:
    with serving(tmp_path, path, model, port) as running:
        running.until(READY)
        ours = descendants(running.process.pid, processes())
        os.kill(pid_of(running, victim), signal.SIGKILL)
        assert running.finish() == 1
        assert "the engine ended by itself" in running.lines[-1]
        assert not set(ours) & set(processes())


def test_missing_weights(tmp_path: Path, path: str, port: int) -> None:
    with serving(tmp_path, path, "/nowhere", port) as running:
        assert running.finish() == 1
        assert any("'/nowhere'" in line for line in running.lines)
        assert "its last lines are above" in running.lines[-1]
        assert any("'/nowhere'" in line for line in running.state()["tail"])


def test_an_option_that_nobody_checked(tmp_path: Path, path: str, model: Path, port: int) -> None:
    with serving(tmp_path, path, model, port, serve={"max_modellen": 5}) as running:
        assert running.finish() == 1
        assert any("unrecognized arguments: --max-modellen" in line for line in running.lines)


def test_a_port_in_use(tmp_path: Path, path: str, model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with serving(tmp_path, path, model, taken.getsockname()[1]) as running:
            assert running.finish() == 1
            assert any("Address already in use" in line for line in running.lines)


def test_awkward_values_arrive_whole(tmp_path: Path, path: str, model: Path, port: int) -> None:
    template = """{% if a %}"two words" 'x' $HOME; `id`{% endif %}"""
    serve = {"chat_template": template, "limit_mm_per_prompt": {"image": 18}, "enable_prefix_caching": False}
    env = {"TRICKY": template, "USE_FLAGGEMS": "1"}
    known = facts()
    known = facts(options=(*known.options, "chat-template"))
    with serving(tmp_path, path, model, port, serve=serve, env=env, facts=known) as running:
        running.until(READY)
        front = pid_of(running, "front")
        argv = command_line(front)
        environ = Path(f"/proc/{front}/environ").read_text().split("\0")
    assert argv[argv.index("--chat-template") + 1] == template
    assert json.loads(argv[argv.index("--limit-mm-per-prompt") + 1]) == {"image": 18}
    assert "--no-enable-prefix-caching" in argv
    assert {f"TRICKY={template}", "USE_FLAGGEMS=1"} <= set(environ)


@pytest.mark.parametrize(
    ("kind", "vllm"),
    [("flagscale", "0.32.0"), ("flagscale", "0.8.5"), ("nodes", "0.32.0"), ("nodes", "0.8.5")],
)
def test_a_stop_lets_requests_finish(
    tmp_path: Path, path: str, model: Path, port: int, kind: str, vllm: str
) -> None:
    """By vLLM's own drain where it has one, else by the launcher."""
    orders = {"STANDIN_ORDERS": json.dumps({"tokens_per_s": 10})}
    changes: dict[str, Any] = {"env": orders, "facts": facts(vllm), "launch": {"kind": kind}}
    with serving(tmp_path, path, model, port, **changes) as running:
        running.until(READY)
        url = f"http://127.0.0.1:{port}/v1/completions"
        with httpx.stream("POST", url, json=stream(20), timeout=30) as answer:
            events = (json.loads(line[6:]) for line in answer.iter_lines() if '"text"' in line)
            next(events)
            running.process.terminate()
            answers = list(events)
        assert running.finish() == 0
    # One token came before the stop, the last event is the end.
    assert len(answers) == 20


def stream(tokens: int) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "hello", "max_tokens": tokens, "stream": True}
