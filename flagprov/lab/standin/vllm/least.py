"""The stand-in at its lightest, for measuring what starts engines: one process, one thread, one answer."""

from __future__ import annotations

import json
import socket
import sys

PATIENCE_S = 5.0
EVENT = 'data: {"choices": [{"index": 0, "delta": {"content": "hello"}}]}\n\ndata: [DONE]\n\n'


def serve(words: list[str]) -> None:
    """`MODEL --option value ...`, of which four matter; until a signal ends it."""
    options = {word: words[at] for at, word in enumerate(words[:-1], 1)}
    model = options.get("--served-model-name", words[0])
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.get("--host", "0.0.0.0"), int(options.get("--port", "8000"))))
        listener.listen(128)
        sys.stdout.write("INFO [standin] Application startup complete.\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            connection.settimeout(PATIENCE_S)
            try:
                with connection:
                    connection.sendall(answer(asked(connection), model))
            except (OSError, ValueError):
                continue  # who said nothing, or went away


def asked(connection: socket.socket) -> bytes:
    """A whole request."""
    data = b""
    while True:
        more = connection.recv(65536)
        if not more:
            raise ValueError("it ended early")
        data += more
        head, end, body = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if end and len(body) >= int(length or 0):
            return data


def answer(request: bytes, model: str) -> bytes:
    path = request.split(b" ", 2)[1].decode()
    body = "{}"
    if path == "/v1/models":
        body = json.dumps({"object": "list", "data": [{"id": model, "object": "model"}]})
    elif path.startswith("/v1/"):
        text = {"message": {"role": "assistant", "content": "hello"}} if "chat" in path else {"text": "hello"}
        choice = {"index": 0, "finish_reason": "stop", **text}
        usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        body = json.dumps({"model": model, "choices": [choice], "usage": usage})
        if json.loads(request.partition(b"\r\n\r\n")[2]).get("stream"):
            body = EVENT
    elif path == "/metrics":
        body = "vllm:num_requests_running 0.0\nvllm:num_requests_waiting 0.0\n"
    data = body.encode()
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)
