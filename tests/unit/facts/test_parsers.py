"""Each parser against tests/cases/facts/PARSER/NAME.txt, what a tool printed, and NAME.json, what it means.

A new output is one new .txt file; FLAGPROV_UPDATE_CASES=1 writes its .json, which is to be read before it is
committed. {"unparsed": ...} is the message where the output is not understood.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flagprov.host.facts import Unparsed, ascend, nvidia, rdma, system

CASES = Path(__file__).parents[2] / "cases" / "facts"


def csv(text: str) -> Any:
    gpus, _, apps = text.partition("--- apps\n")
    devices, complaints = nvidia.devices(gpus, apps)
    return {"devices": devices, "complaints": complaints}


def infiniband(text: str) -> Any:
    """What `grep -r .` shows of files below /sys/class/infiniband."""
    files: dict[str, str] = {}
    for line in text.splitlines():
        path, _, said = line.partition(":")
        files[path] = f"{files.get(path, '')}{said}\n"
    return rdma.ports(files)


PARSERS: dict[str, Callable[[str], Any]] = {
    "chrony": system.chrony,
    "cpuinfo": system.cpuinfo,
    "fstab": system.fstab,
    "hccn": ascend.hccn,
    "hccn_address": ascend.hccn_address,
    "hccn_gateway": ascend.hccn_gateway,
    "hccn_tls": ascend.hccn_tls,
    "infiniband": infiniband,
    "ip_address": system.addresses,
    "key_value": ascend.pairs,
    "lscpu": system.lscpu,
    "mountinfo": system.mounts,
    "npu_mapping": ascend.mapping,
    "npu_smi": ascend.table,
    "nvidia_csv": csv,
    "nvidia_module": nvidia.loaded,
    "nvidia_xml": nvidia.report,
    "nvlink": nvidia.links,
    "os_release": system.os_release,
    "timedatectl": system.timedatectl,
    "timesync": system.timesync,
    "version": nvidia.version,
    "xid": nvidia.xids,
}


def name(case: Path) -> str:
    return f"{case.parent.name}/{case.stem}"


@pytest.mark.parametrize("case", sorted(CASES.glob("*/*.txt")), ids=name)
def test_parser(case: Path) -> None:
    try:
        found = PARSERS[case.parent.name](case.read_text())
    except Unparsed as unparsed:
        found = {"unparsed": str(unparsed)}
    expected = case.with_suffix(".json")
    if os.environ.get("FLAGPROV_UPDATE_CASES"):
        expected.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(expected.read_text())


def test_every_parser_has_cases() -> None:
    assert {path.name for path in CASES.iterdir()} == set(PARSERS)


def test_every_answer_has_its_question() -> None:
    assert [path for path in CASES.glob("*/*.json") if not path.with_suffix(".txt").exists()] == []
