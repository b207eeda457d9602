"""The container that docker is asked for, against the card: the same comparison as with one that runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.card_options import Options, differences, of_command, of_container, unexplained

CASES = Path(__file__).parents[1] / "cases"
COMMON = yaml.safe_load((CASES / "cards" / "common.yaml").read_text())["differences"]
CARDS = sorted(path.stem for path in (CASES / "cards").glob("*-*.yaml"))
HALF_OF_MEMORY = 1 << 39  # of the host of tests/cases/containers
HERE_NONE = "this host has none"  # what is optional is left out by the host itself


def asked_for(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a request as `docker inspect` would show the container."""
    defaults: dict[str, Any] = {
        "AutoRemove": False, "UTSMode": "", "PidMode": "", "Runtime": "runc", "ReadonlyRootfs": False,
        **dict.fromkeys(("SecurityOpt", "CapAdd", "CapDrop", "GroupAdd", "DeviceRequests", "Devices")),
    }  # fmt: skip
    host = {**defaults, **body["HostConfig"]}
    host.setdefault("ShmSize", 64 << 20)
    config = {"User": "", "WorkingDir": "", "Tty": False, "OpenStdin": False, **body}
    mounts = [
        {"Destination": mount["Target"], "Source": mount["Source"], "RW": not mount["ReadOnly"]}
        for mount in host["Mounts"]
    ]
    return {"Name": "/flagprov-replica-0", "Config": config, "HostConfig": host, "Mounts": mounts}


def without_engine(options: Options) -> Options:
    """Its arguments are in the configuration, not in the container."""
    return {key: value for key, value in options.items() if not key.startswith("serve.")}


def loose(entry: dict[str, Any]) -> dict[str, Any]:
    here = str(entry.get("here", "")).replace("{half_of_memory}", str(HALF_OF_MEMORY))
    return {**entry, "here": here, "optional": entry.get("optional") or entry["reason"] == HERE_NONE}


@pytest.mark.parametrize("name", CARDS)
def test_a_container_differs_from_its_card_only_as_listed(name: str) -> None:
    case = yaml.safe_load((CASES / "cards" / f"{name}.yaml").read_text())
    body = json.loads((CASES / "containers" / f"{name}.json").read_text())
    card = without_engine(of_command(case["docker_run"], case["env"], {}))
    here = without_engine(of_container(asked_for(body), (), ["vllm", "serve", "MODEL"]))
    listed = [loose(each) for each in [*COMMON, *case["differences"]] if not each["key"].startswith("serve.")]
    found = differences(card, here)
    lacking = [each for each in listed if each["reason"] == HERE_NONE and each["key"] not in found]
    assert unexplained(found, listed) == []
    assert all(each["key"] in here for each in lacking)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("CapAdd", ["SYS_PTRACE"], "cap_add.SYS_PTRACE"),
        ("CapDrop", ["ALL"], "cap_drop.ALL"),
        ("GroupAdd", ["video"], "group_add.video"),
        ("PidMode", "host", "pid"),
        ("Runtime", "ascend", "runtime"),
        ("RestartPolicy", {"Name": "always"}, "restart"),
        ("ReadonlyRootfs", True, "read_only"),
        ("SecurityOpt", ["apparmor=unconfined"], "security_opt.apparmor=unconfined"),
    ],
)
def test_no_option_goes_unseen(key: str, value: Any, word: str) -> None:
    body = json.loads((CASES / "containers" / "qwen3-4b-ascend-a2.json").read_text())
    before = of_container(asked_for(body), (), ["vllm", "serve", "MODEL"])
    body["HostConfig"][key] = value
    assert list(differences(before, of_container(asked_for(body), (), ["vllm", "serve", "MODEL"]))) == [word]


def test_a_mount_that_may_not_be_written_is_another_one() -> None:
    card = of_command("docker run -v /nfs:/nfs:ro image bash", {}, {})
    assert card["mount./nfs"] == "/nfs:ro"
