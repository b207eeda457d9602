"""`vllm serve`'s command line: the real engine's option names, what it refuses is refused here too."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What the stand-in reads itself, and the real one's defaults.
DEFAULTS = {"port": 8000, "shutdown_timeout": 0, "tensor_parallel_size": 1, "nnodes": 1, "node_rank": 0}
# As the real one, 32k and 25.6K are whole numbers too.
INTEGER = re.compile(r"-?\d+(\.\d+)?[kKmMgG]?$")
FAIL = 1


def known() -> dict[str, str]:
    """Option name -> flag (with a no- form), switch, value, values, integer, number or json.

    Taken from the parser of vLLM 0.32.0 for the CPU.
    """
    text = Path(__file__).with_name("options.json").read_text(encoding="utf-8")
    options: dict[str, str] = json.loads(text)
    return options


def parser() -> argparse.ArgumentParser:
    """The parser of `vllm serve`."""
    result = argparse.ArgumentParser(
        prog="vllm serve", usage="vllm serve [model_tag] [options]", add_help=False, allow_abbrev=False
    )
    result.add_argument("model_tag", nargs="?")
    result.add_argument("-h", "--help", nargs="?", const="all")
    for name, kind in known().items():
        _add(result, name, kind)
    result.set_defaults(**DEFAULTS)
    return result


def _add(target: argparse.ArgumentParser, name: str, kind: str) -> None:
    dest = name.replace("-", "_")
    if kind in ("flag", "switch"):
        target.add_argument("--" + name, dest=dest, action="store_true", default=None)
        if kind == "flag":
            target.add_argument("--no-" + name, dest=dest, action="store_false", default=None)
    elif kind == "values":
        target.add_argument("--" + name, dest=dest, nargs="+")
    elif dest in DEFAULTS:
        target.add_argument("--" + name, dest=dest, type=int)
    else:
        types: dict[str, Callable[[str], Any]] = {"json": _json, "integer": _integer, "number": float}
        nargs = "?" if "?" in kind else None
        target.add_argument("--" + name, dest=dest, type=types.get(kind, str), nargs=nargs)


def _integer(text: str) -> str:
    if not INTEGER.match(text):
        raise argparse.ArgumentTypeError(f"invalid int value: {text!r}")
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to JSON.") from None


def parse(argv: list[str]) -> argparse.Namespace:
    """Arguments of `vllm serve`; underscores in option names are taken as dashes, as the real one does."""
    words: list[str] = []
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            word = "--" + name[2:].replace("_", "-") + equals + value
        words.append(word)
    arguments = parser().parse_args(words)
    if arguments.help:
        sys.stdout.write(parser().format_help())
        sys.exit(0)
    return arguments


def check_model(path: str, tensor_parallel_size: int) -> dict[str, Any]:
    """config.json of the model; ValueError says what the real engine would complain about."""
    config_file = Path(path, "config.json")
    if not config_file.is_file():
        raise ValueError(
            f"Invalid repository ID or local directory specified: {path!r}: "
            "no recognised configuration file such as config.json was found there."
        )
    config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    heads = config.get("num_attention_heads")
    if heads and heads % tensor_parallel_size:
        raise ValueError(
            f"Total number of attention heads ({heads}) must be divisible by "
            f"tensor parallel size ({tensor_parallel_size})."
        )
    return config


def orders_of(path: str) -> dict[str, Any]:
    """What standin.json in the model's directory and the environment order from the start."""
    orders: dict[str, Any] = {}
    file = Path(path, "standin.json")
    if file.is_file():
        orders.update(json.loads(file.read_text(encoding="utf-8")))
    orders.update(json.loads(os.environ.get("STANDIN_ORDERS", "{}")))
    if os.environ.get("STANDIN_FAIL_AT_START"):
        orders["fail"] = os.environ["STANDIN_FAIL_AT_START"]
    return orders
