"""Switches FlagGems on in this process, proves it, and says so in a file of this process.

The proof is what torch accepted: every operator that was registered while FlagGems was enabled. Where the
image's own vLLM enables it, the list of FlagGems' registrar.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import json
import os
import sys
import time
from typing import Any, Dict, Iterator, List, Sequence, Tuple

CONFIG = "FLAGPROV_OPERATORS"  # the file that says what to do; set by the launcher
RUN = "FLAGPROV_RUN"
SCHEMA_VERSION = 1
Names = List[Tuple[str, str]]  # operator of torch, function of FlagGems


class FlagGemsError(RuntimeError):
    """FlagGems was asked for, and this worker does not have it."""


def device_is_set(worker: Any) -> None:
    """Called in a worker, after its device is set and before its model is loaded."""
    config = read_config()
    if already_on() or config["mode"] == "enable":
        _prove(worker, config)
    else:
        # The image's vLLM may do it as late as with the model.
        _after_loading(worker, config)


def read_config() -> Dict[str, Any]:
    path = os.environ[CONFIG]
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except (OSError, ValueError) as error:
        raise FlagGemsError("flagprov: %s cannot be read: %s" % (path, error)) from None
    if config.get("schema_version") != SCHEMA_VERSION:
        raise FlagGemsError("flagprov: %s is not of schema version %d" % (path, SCHEMA_VERSION))
    return dict(config)


def _after_loading(worker: Any, config: Dict[str, Any]) -> None:
    load = getattr(worker, "load_model", None)
    if load is None:
        _prove(worker, config)
        return

    @functools.wraps(load)
    def load_model(*args: Any, **kwargs: Any) -> Any:
        result = load(*args, **kwargs)
        _prove(worker, config)
        return result

    worker.load_model = load_model


def _prove(worker: Any, config: Dict[str, Any]) -> None:
    """Leaves FlagGems on and a record of it, or a record of why not and FlagGemsError."""
    own = not already_on()
    left_out = [str(name) for name in config.get("leave_out", ())]
    record = _record(worker, "plugin" if own else "image")
    try:
        if own and config["mode"] == "enable":
            names = enable(left_out)
        else:
            names = registered()
            left_out = []  # what the image itself left out is not known here
        if not names:
            raise FlagGemsError("no operator was replaced")
        kept = sorted({function for _, function in names} & set(left_out))
        if kept:
            raise FlagGemsError("%s should be left out, and cannot be" % ", ".join(kept))
    except Exception as error:
        record.update(flaggems="failed", error="%s: %s" % (type(error).__name__, error))
        write(record)
        raise FlagGemsError(
            "flagprov: FlagGems was asked for and cannot be had in this worker (%s: %s); "
            "to serve without it: --operators native" % (type(error).__name__, error)
        ) from error
    operators = sorted({operator for operator, _ in names})
    record.update(
        flaggems="on", version=version(), count=len(operators), operators=operators, left_out=left_out
    )
    write(record)
    sys.stderr.write(
        "flagprov: FlagGems %s is on in pid %d: %d operators replaced\n"
        % (record["version"], record["pid"], len(operators))
    )


def already_on() -> bool:
    """Whether FlagGems has replaced operators in this process; asking does not import it."""
    return "flag_gems" in sys.modules and bool(registered())


def registered() -> Names:
    """What FlagGems' registrar says that it has registered."""
    module = sys.modules.get("flag_gems")
    registrar = getattr(module, "current_work_registrar", None)
    keys = _call(registrar, "get_all_keys") or _call(registrar, "get_all_ops")
    return [(str(key), "") for key in keys or ()]


def _call(owner: Any, name: str) -> Any:
    function = getattr(owner, name, None)
    return function() if callable(function) else None


def enable(left_out: Sequence[str]) -> Names:
    """Import FlagGems and replace torch's operators in this process, but for those left out."""
    gems = importlib.import_module("flag_gems")
    arguments: Dict[str, Any] = {}
    if left_out:
        if "unused" not in inspect.signature(gems.enable).parameters:
            raise FlagGemsError("this FlagGems cannot leave operators out")
        # A list of ours takes the place of the one that FlagGems has for its vendor.
        arguments["unused"] = sorted({*left_out, *_vendors_own()})
    with accepted() as names:
        gems.enable(**arguments)
    return names or registered()


def _vendors_own() -> List[str]:
    try:
        resolve = importlib.import_module("flag_gems.config").resolve_user_setting
    except (ImportError, AttributeError):
        return []  # FlagGems before 4 has no such list
    return [str(name) for name in resolve(None, "exclude") or ()]


@contextlib.contextmanager
def accepted() -> Iterator[Names]:
    """All that torch accepts as an operator's implementation meanwhile."""
    library = importlib.import_module("torch.library").Library
    impl = library.impl
    names: Names = []

    @functools.wraps(impl)
    def recording(self: Any, operator: Any, function: Any = None, *args: Any, **kwargs: Any) -> Any:
        result = impl(self, operator, function, *args, **kwargs)
        names.append((str(operator), str(getattr(function, "__name__", ""))))
        return result

    library.impl = recording
    try:
        yield names
    finally:
        library.impl = impl


def version() -> str:
    try:
        from importlib import metadata

        return metadata.version("flag_gems")
    except Exception:  # an image may have it without its metadata
        return str(getattr(sys.modules.get("flag_gems"), "__version__", ""))


def _record(worker: Any, by: str) -> Dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "pid": os.getpid(),
        "process": process_name(),
        "rank": getattr(worker, "rank", None),
        "device": str(getattr(worker, "device", None) or ""),
        "by": by,
        "flaggems": "off",
        "version": "",
        "count": 0,
        "operators": [],
        "left_out": [],
        "error": "",
        "at": round(time.time(), 3),
    }


def process_name() -> str:
    """As `ps` shows it: vLLM names its workers."""
    try:
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    named = [word for word in words if word.startswith(("VLLM::", "ray::"))]
    return (named or words)[0].strip()[:100]


def write(record: Dict[str, Any]) -> None:
    """One file per process, so that no worker writes over another's."""
    folder = os.path.join(os.environ.get(RUN, "/run/flagprov"), "operators")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "%d.json" % record["pid"])
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.write("\n")
    os.replace(path + ".new", path)
