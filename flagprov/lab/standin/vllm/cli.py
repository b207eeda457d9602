"""`vllm serve MODEL --opts` of the stand-in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

from . import __version__
from .front import Front
from .options import FAIL, check_model, orders_of, parse
from .server import Server

START_S = 0.5


def log(text: str) -> None:
    # A reader that is gone is no reason to leave an engine behind.
    with contextlib.suppress(OSError):
        sys.stdout.write("INFO {} [standin] {}\n".format(time.strftime("%m-%d %H:%M:%S"), text))
        sys.stdout.flush()


def main() -> None:
    words = sys.argv[1:]
    if words[:1] in (["--version"], ["-v"]):
        sys.stdout.write(__version__ + "\n")
        return
    if words[:1] != ["serve"]:
        sys.stderr.write("vllm (stand-in): only `vllm serve` is emulated\n")
        sys.exit(2)
    sys.exit(serve(words[1:]))


def serve(words: list[str]) -> int:
    """Runs until a signal or the engine's death; the exit code."""
    args = parse(words)
    log(f"vLLM API server version {__version__} (emulated)")
    model = args.model_tag or ""
    try:
        check_model(model, args.tensor_parallel_size)
        orders = orders_of(model)
        if orders.get("fail"):
            raise ValueError(str(orders["fail"]))
        served = args.served_model_name or [model]
        address = (args.host or "0.0.0.0", args.port)
        server = None if args.headless else Server(*address, served, args.api_key or [])
    except (ValueError, OSError) as error:
        sys.stderr.write(f"ERROR [standin] {type(error).__name__}: {error}\n")
        return FAIL
    return run(server, orders, args.shutdown_timeout, args.tensor_parallel_size // max(1, args.nnodes))


def run(server: Server | None, orders: Any, shutdown_timeout: int, workers: int) -> int:
    asked, over = threading.Event(), threading.Event()

    def on_signal(*_: object) -> None:
        asked.set()
        over.set()

    def on_death(_: int) -> None:
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    front = Front(orders, on_death, max(1, workers))
    if server:
        server.front = front
    log("Starting to load model (emulated)")
    over.wait(float(orders.get("start_s", START_S)))
    if not over.is_set() and not server:
        log("Headless: a rank beside the head (emulated)")
        over.wait()
    elif not over.is_set() and server:
        server.server_activate()
        threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()
        log("Application startup complete.")
        over.wait()
    if asked.is_set():
        log(f"Shutting down, letting requests finish for up to {shutdown_timeout} s")
        deadline = time.monotonic() + shutdown_timeout
        while front.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        front.stop()
        return 0
    sys.stderr.write("ERROR [standin] EngineDeadError: EngineCore encountered an issue.\n")
    sys.stderr.flush()
    os._exit(FAIL)
