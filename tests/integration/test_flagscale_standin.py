"""The stand-in engine itself: what it refuses, and that it hangs, lies and dies on order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import serve_environment


class Engine:
    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = process

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=body.pop("timeout", 10))

    def text(self, prompt: str = "hello", **body: Any) -> str:
        answer = self.post("/v1/completions", model="tiny", prompt=prompt, max_tokens=6, **body)
        return str(answer.raise_for_status().json()["choices"][0]["text"])

    def metric(self, name: str) -> float:
        (line,) = [
            line for line in self.get("/metrics").text.splitlines() if line.startswith(f"vllm:{name}{{")
        ]
        return float(line.split()[-1])


def vllm(model: Path, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    command = serve_environment.serve_python().with_name("vllm")
    return subprocess.Popen(
        [str(command), "serve", str(model), "--served-model-name", "tiny", "--host", "127.0.0.1", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | (env or {}),
    )  # fmt: skip


@contextmanager
def engine(model: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Engine]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with vllm(model, "--port", str(port), *options, env=env) as process:
        try:
            assert process.stdout
            assert any("Application startup complete." in line for line in process.stdout)
            yield Engine(port, process)
        finally:
            process.terminate()
            process.wait()


def refusal(model: Path, *options: str, env: dict[str, str] | None = None) -> str:
    with vllm(model, *options, env=env) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode
    return output


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 28}')
    return tmp_path


def test_answers(model: Path) -> None:
    with engine(model) as running:
        assert running.get("/health").status_code == 200
        assert running.get("/version").json() == {"version": "0.32.0+standin"}
        assert [each["id"] for each in running.get("/v1/models").json()["data"]] == ["tiny"]
        assert running.text() == running.text()
        assert running.text() != running.text("bye")
        assert running.metric("generation_tokens_total") == 24
        assert running.metric("request_success_total") == 4
        assert running.metric("num_requests_running") == 0
        assert running.post("/v1/completions", model="other", prompt="x").status_code == 404
        running.process.terminate()
        running.process.communicate()
        assert running.process.returncode == 0


def test_a_real_client_streams(model: Path) -> None:
    with engine(model, "--api-key", "k") as running:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="k") as client:
            messages: Any = [{"role": "user", "content": "hello"}]
            whole = client.chat.completions.create(model="tiny", messages=messages, max_tokens=5)
            with client.chat.completions.create(
                model="tiny", messages=messages, max_tokens=5, stream=True
            ) as chunks:
                pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(pieces) == whole.choices[0].message.content
        assert running.get("/v1/models").status_code == 401
        assert running.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-modellen", "5"], "unrecognized arguments: --max-modellen 5"),
        (["--limit-mm-per-prompt", "image=18"], "cannot be converted"),
        (["--max-model-len", "long"], "invalid int value"),
        (["--tensor-parallel-size", "8"], "must be divisible by tensor parallel size"),
    ],
)
def test_refuses_as_the_real_one(model: Path, options: list[str], message: str) -> None:
    assert message in refusal(model, *options)


def test_accepts_what_the_real_one_accepts(model: Path) -> None:
    options = [
        "--max_model_len",
        "32k",
        "--no-enable-prefix-caching",
        "--limit-mm-per-prompt",
        '{"image": 18}',
    ]
    with engine(model, *options) as running:
        assert running.text()


def test_start_failures_on_order(model: Path) -> None:
    assert "out of memory" in refusal(model, env={"STANDIN_FAIL_AT_START": "out of memory"})
    (model / "standin.json").write_text(json.dumps({"fail": "bad shard"}))
    assert "bad shard" in refusal(model)
    assert "Invalid repository ID or local directory" in refusal(model / "nowhere")


def test_hangs_on_order_while_its_health_is_fine(model: Path) -> None:
    with engine(model) as running:
        running.post("/standin/hang")
        with pytest.raises(httpx.ReadTimeout):
            running.post("/v1/completions", model="tiny", prompt="x", timeout=0.5)
        assert running.get("/health").status_code == 200
        assert running.metric("num_requests_running") == 1
        assert running.metric("generation_tokens_total") == 0
        running.post("/standin/well")
        assert running.text()


def test_lies_on_order(model: Path) -> None:
    with engine(model) as running:
        running.post("/standin/lie")
        assert [each["id"] for each in running.get("/v1/models").json()["data"]] == ["another-model"]


def test_talks_nonsense_on_order(model: Path) -> None:
    with engine(model) as running:
        running.post("/standin/nonsense")
        assert running.text() == "!" * 6


def test_errs_at_an_ordered_rate(model: Path) -> None:
    with engine(model) as running:
        running.post("/standin/error", rate=0.5)
        codes = [running.post("/v1/completions", model="tiny", prompt="x").status_code for _ in range(4)]
        assert codes == [200, 500, 200, 500]


def test_dies_on_order(model: Path) -> None:
    with engine(model) as running:
        running.post("/standin/die")
        output, _ = running.process.communicate(timeout=30)
        assert running.process.returncode == 1
        assert "EngineDeadError" in output


def test_the_engine_outlives_its_front(model: Path) -> None:
    with engine(model) as running:
        children = (
            Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        )
        running.process.kill()
        running.process.wait()
        assert [Path(f"/proc/{child}").exists() for child in children] == [True]
        os.kill(int(children[0]), signal.SIGKILL)
