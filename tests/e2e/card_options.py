"""What a card's `docker run` asks for and what a container has, in one form, so that the two can be compared.

Keys are those of a flat mapping: `privileged`, `network`, `ulimit.memlock`, `mount./nfs`, `device./dev/x`,
`cap_add.SYS_PTRACE`, `env.NAME`, `serve.port`, ...; values are text as a card writes them, sizes in bytes.
What docker does where nothing is asked for has no key.
"""

from __future__ import annotations

import argparse
import fnmatch
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
Options = dict[str, str]


def of_command(line: str, env: Mapping[str, str], serve: Mapping[str, Any]) -> Options:
    """From the card: its `docker run`, what it exports before the engine starts, its engine arguments."""
    words = shlex.split(line)
    assert words[:2] == ["docker", "run"], line
    parser = argparse.ArgumentParser(
        prog="docker run", allow_abbrev=False, add_help=False, exit_on_error=False
    )
    for name in ("--rm", "--init", "--detach", "-itd", "--read-only"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--privileged", nargs="?", const="true")
    for name in (
        "--name",
        "--net",
        "--ipc",
        "--uts",
        "--pid",
        "--shm-size",
        "--gpus",
        "--runtime",
        "--restart",
    ):
        parser.add_argument(name)
    for name in ("--stop-timeout", "-u", "-w"):
        parser.add_argument(name)
    for name in (
        "--security-opt",
        "--cap-add",
        "--cap-drop",
        "--group-add",
        "--ulimit",
        "--device",
        "-v",
        "-e",
    ):
        parser.add_argument(name, action="append", default=[])
    parser.add_argument("image")
    parser.add_argument("command", nargs="+")
    # A bare --privileged would take the next word for its value.
    given = parser.parse_args(["--privileged=true" if word == "--privileged" else word for word in words[2:]])
    found = {
        "rm": given.rm and "true",
        "init": given.init and "true",
        "terminal": given.itd and "true",
        "name": given.name,
        "privileged": given.privileged,
        "network": given.net,
        "ipc": given.ipc,
        "uts": given.uts,
        "pid": given.pid,
        "runtime": given.runtime,
        "restart": given.restart,
        "stop_timeout": given.stop_timeout,
        "read_only": given.read_only and "true",
        "user": given.u,
        "workdir": given.w,
        "shm_size": given.shm_size and str(size(given.shm_size)),
        "gpus": given.gpus,
        "image": given.image,
        "command": shlex.join(given.command),
        **{f"security_opt.{text}": text for text in given.security_opt},
        **{f"cap_add.{text}": text for text in given.cap_add},
        **{f"cap_drop.{text}": text for text in given.cap_drop},
        **{f"group_add.{text}": text for text in given.group_add},
        **dict(_limit(text) for text in given.ulimit),
        **{f"device.{text}": text for text in given.device},
        **dict(_volume(text) for text in given.v),
        **{f"env.{name}": value for name, _, value in (text.partition("=") for text in given.e)},
        **{f"env.{name}": value for name, value in env.items()},
        **{f"serve.{name}": _written(value) for name, value in serve.items()},
    }
    return {key: value for key, value in found.items() if value}


def of_container(inspected: Mapping[str, Any], image_env: Iterable[str], engine: Sequence[str]) -> Options:
    """From `docker inspect`, less what its image sets itself, and the engine's own command line."""
    config, host = inspected["Config"], inspected["HostConfig"]
    own = [entry for entry in config["Env"] if entry not in set(image_env)]
    requests = host.get("DeviceRequests") or []
    found = {
        "rm": host["AutoRemove"] and "true",
        "init": host["Init"] and "true",
        "terminal": config["Tty"] and config["OpenStdin"] and "true",
        "name": inspected["Name"].lstrip("/"),
        "privileged": host["Privileged"] and "true",
        "network": host["NetworkMode"],
        "ipc": host["IpcMode"] if host["IpcMode"] != "private" else "",
        "uts": host["UTSMode"],
        "pid": host["PidMode"],
        "runtime": host["Runtime"] if host["Runtime"] != "runc" else "",
        "restart": host["RestartPolicy"]["Name"] if host["RestartPolicy"]["Name"] != "no" else "",
        "stop_timeout": str(config.get("StopTimeout") or ""),
        "read_only": host["ReadonlyRootfs"] and "true",
        "user": config["User"],
        "workdir": config["WorkingDir"],
        "shm_size": str(host["ShmSize"]),
        "gpus": ",".join(index for request in requests for index in request["DeviceIDs"]),
        "image": config["Labels"]["io.flagprov.image"],
        "command": shlex.join([*(config["Entrypoint"] or ()), *(config["Cmd"] or ())]),
        **{f"security_opt.{text}": text for text in host["SecurityOpt"] or ()},
        **{f"cap_add.{text}": text for text in host["CapAdd"] or ()},
        **{f"cap_drop.{text}": text for text in host["CapDrop"] or ()},
        **{f"group_add.{text}": text for text in host["GroupAdd"] or ()},
        **{
            f"ulimit.{each['Name']}": str(each["Soft"])
            if each["Soft"] == each["Hard"]
            else f"{each['Soft']}:{each['Hard']}"
            for each in host["Ulimits"] or ()
        },
        **{f"device.{each['PathOnHost']}": each["PathInContainer"] for each in host["Devices"] or ()},
        **dict(_mount(each["Destination"], each["Source"], each["RW"]) for each in inspected["Mounts"]),
        **{f"env.{name}": value for name, _, value in (entry.partition("=") for entry in own)},
        **{f"serve.{name}": value for name, value in of_engine(engine).items()},
    }
    return {key: value for key, value in found.items() if value}


def of_engine(words: Sequence[str]) -> Options:
    """`... vllm serve MODEL --option value --flag` as a mapping with the names that YAML has."""
    at = words.index("serve")
    found, name = {"model": words[at + 1]}, ""
    for word in words[at + 2 :]:
        if word.startswith("--"):
            name = word[2:].partition("=")[0].replace("-", "_")
            found[name] = word.partition("=")[2] or "true"
        else:
            found[name] = word
    return found


def differences(card: Options, here: Options) -> dict[str, tuple[str, str]]:
    """Key -> what the card has and what the container has; empty where one has nothing."""
    keys = sorted({*card, *here})
    return {
        key: (card.get(key, ""), here.get(key, "")) for key in keys if card.get(key, "") != here.get(key, "")
    }


def unexplained(found: Mapping[str, tuple[str, str]], listed: Iterable[Mapping[str, str]]) -> list[str]:
    """Differences that nobody wrote down, and those which were written down and are not there."""
    left = dict(found)
    wrong = []
    for entry in listed:
        assert entry["reason"], entry
        keys = [key for key in left if fnmatch.fnmatchcase(key, entry["key"])]
        fitting = [key for key in keys if _fits(entry, left[key])]
        if not fitting and not entry.get("optional"):
            wrong.append(
                f"listed, and not so: {entry['key']}: {[left[key] for key in keys] or 'no difference'}"
            )
        for key in fitting:
            del left[key]
    return wrong + [f"{key}: the card has {card!r}, here is {here!r}" for key, (card, here) in left.items()]


def size(text: str) -> int:
    unit = text[-1].lower()
    return int(text[:-1]) * UNITS[unit] if unit in UNITS else int(text)


def _fits(entry: Mapping[str, str], difference: tuple[str, str]) -> bool:
    card, here = difference
    return fnmatch.fnmatchcase(card, entry.get("card", "")) and fnmatch.fnmatchcase(
        here, entry.get("here", "")
    )


def _limit(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    soft, _, hard = value.partition(":")
    return f"ulimit.{name}", soft if soft == hard else value


def _volume(text: str) -> tuple[str, str]:
    source, target, *mode = text.split(":")
    return _mount(target, source, "ro" not in mode)


def _mount(target: str, source: str, writable: bool) -> tuple[str, str]:
    return f"mount.{target}", source if writable else f"{source}:ro"


def _written(value: Any) -> str:
    """False is dropped, as FlagScale does."""
    if isinstance(value, bool):
        return "true" if value else ""
    return str(value)
