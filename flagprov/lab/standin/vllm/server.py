"""The OpenAI-compatible API of the stand-in, and POST /standin/ORDER."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import __version__
from .front import Front

ORDERS = ("hang", "lie", "die", "slow", "nonsense", "error")


class Server(ThreadingHTTPServer):
    """Binds at once, listens when the engine is up."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, served: list[str], api_keys: list[str]) -> None:
        super().__init__((host, port), Handler, bind_and_activate=False)
        self.allow_reuse_address = True
        self.server_bind()
        self.served = served
        self.api_keys = api_keys
        self.front: Front | None = None
        self.refused = 0.0

    def models(self) -> list[str]:
        assert self.front
        return ["another-model"] if self.front.orders.get("lie") else self.served

    def metrics(self) -> str:
        assert self.front
        label = f'{{engine="0",model_name="{self.served[0]}"}}'
        counters = self.front.counters
        values = {
            "vllm:num_requests_running": self.front.running(),
            "vllm:num_requests_waiting": 0,
            "vllm:kv_cache_usage_perc": self.front.cache_usage,
            "vllm:prompt_tokens_total": counters["prompt"],
            "vllm:generation_tokens_total": counters["generation"],
            "vllm:request_success_total": counters["success"],
        }
        lines = []
        for name, value in values.items():
            lines.append("# TYPE {} {}".format(name, "counter" if name.endswith("_total") else "gauge"))
            lines.append(f"{name}{label} {float(value)}")
        return "\n".join(lines) + "\n"

    def errs(self) -> bool:
        """Whether this request is one of the ordered share that fails."""
        assert self.front
        self.refused += float(self.front.orders.get("error", 0))
        if self.refused >= 1:
            self.refused -= 1
            return True
        return False


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def front(self) -> Front:
        assert self.server.front
        return self.server.front

    def do_GET(self) -> None:
        if self.path == "/health" or self.path == "/ping":
            self.answer(200, "", "text/plain")
        elif self.path == "/version":
            self.answer(200, {"version": __version__})
        elif self.path == "/metrics":
            self.answer(200, self.server.metrics(), "text/plain; version=0.0.4")
        elif self.path == "/v1/models" and self.allowed():
            data = [
                {"id": name, "object": "model", "created": int(time.time()), "owned_by": "vllm"}
                for name in self.server.models()
            ]
            self.answer(200, {"object": "list", "data": data})
        elif not self.path.startswith("/v1/models"):
            self.fail(404, "Not Found")

    def do_POST(self) -> None:
        try:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body: dict[str, Any] = json.loads(raw or b"{}")
        except ValueError as error:
            self.fail(400, f"the body is no JSON: {error}")
            return
        if self.path.startswith("/standin/"):
            self.order(self.path[len("/standin/") :], body)
        elif self.path in ("/v1/completions", "/v1/chat/completions"):
            if self.allowed():
                self.complete(self.path == "/v1/chat/completions", body)
        else:
            self.fail(404, "Not Found")

    def order(self, name: str, body: dict[str, Any]) -> None:
        if name == "well":
            self.front.well()
        elif name == "slow":
            self.front.order({"tokens_per_s": body.get("tokens_per_s", 2)})
        elif name == "error":
            self.front.order({"error": body.get("rate", 1)})
        elif name in ORDERS:
            self.front.order({name: True})
        else:
            self.fail(404, "orders are {} and well".format(", ".join(ORDERS)))
            return
        self.answer(200, {"orders": self.front.orders})

    def allowed(self) -> bool:
        if not self.server.api_keys:
            return True
        if self.headers.get("Authorization", "") in ["Bearer " + key for key in self.server.api_keys]:
            return True
        self.fail(401, "Unauthorized")
        return False

    def complete(self, chat: bool, body: dict[str, Any]) -> None:
        model = body.get("model") or self.server.models()[0]
        if model not in self.server.models():
            self.fail(404, f"The model `{model}` does not exist.")
            return
        if self.server.errs():
            self.fail(500, "an error was ordered")
            return
        prompt = json.dumps(body.get("messages")) if chat else str(body.get("prompt", ""))
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        words = self.front.generate(prompt, max(1, int(limit)))
        head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{time.monotonic_ns()}",
            "object": ("chat.completion" if chat else "text_completion"),
            "created": int(time.time()),
            "model": model,
        }
        if body.get("stream"):
            self.stream(chat, head, words)
            return
        try:
            text = list(words)
        except ConnectionError as error:
            self.fail(500, str(error))
            return
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
        if chat:
            choice["message"] = {"role": "assistant", "content": "".join(text)}
        else:
            choice["text"] = "".join(text)
        used = len(prompt.split())
        usage = {"prompt_tokens": used, "completion_tokens": len(text), "total_tokens": used + len(text)}
        self.answer(200, dict(head, choices=[choice], usage=usage))

    def stream(self, chat: bool, head: dict[str, Any], words: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        kind = "chat.completion.chunk" if chat else "text_completion"
        try:
            for word in words:
                piece = {"delta": {"content": word}} if chat else {"text": word}
                self.chunk(dict(head, object=kind, choices=[dict(piece, index=0, finish_reason=None)]))
            last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
            self.chunk(dict(head, object=kind, choices=[dict(last, index=0, finish_reason="length")]))
            self.chunk("[DONE]")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def chunk(self, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        data = (f"data: {text}\n\n").encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def fail(self, code: int, message: str) -> None:
        self.answer(code, {"error": {"message": message, "type": "StandinError", "code": code}})

    def answer(self, code: int, value: Any, kind: str = "application/json") -> None:
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True
