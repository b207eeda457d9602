"""The catalog's releases on emulated hosts of their chips: from a bare host to what their cards ask for.

Hosts: `flagprov lab up --hosts 2 --chips nvidia-h100,ascend-a3,ascend-a2`, and `graviton4` where the
machine is given the time. Emulated are the hardware, the vendors' packages and the engine; roles, docker,
systemd and FlagScale are real.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .card_options import differences, of_command, of_container, unexplained
from .conftest import ROOT, Lab, Result
from .playbooks import changes, playbook

CASES = ROOT / "tests" / "cases" / "cards"
COMMON = yaml.safe_load((CASES / "common.yaml").read_text())["differences"]
CARDS = [
    ("h100", "h100-1", "nvidia-h100", "qwq-32b"),
    ("h100", "h100-1", "nvidia-h100", "qwen2.5-vl-32b"),
    ("h100", "h100-1", "nvidia-h100", "robobrain2-7b-fp8"),
    ("ascend", "a3-1", "ascend-a3", "qwen3-4b"),
    ("ascend", "a2-1", "ascend-a2", "qwen3-4b"),
    ("graviton", "graviton-1", "graviton4", "qwen2-7b"),
]
# What a teardown of the last replica takes besides: the mark of provisioning, and the template unit.
KEEP = (
    "cd / && tar -cf /root/state.tar --no-recursion $(find var/lib/flagprov -maxdepth 1) "
    "etc/systemd/system/flagprov@.service || true"
)
PUT_BACK = (
    "[ ! -e /root/state.tar ] || tar -C / -xf /root/state.tar; rm -f /root/state.tar; systemctl daemon-reload"
)
RELEASES = {"h100": "robobrain2-7b-fp8", "ascend": "qwen3-4b", "graviton": "qwen2-7b"}


class Chips:
    """Hosts of chips; a release that was deployed stays until another test wants the hosts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.serving: dict[str, str] = {}
        self.prepared: set[str] = set()

    def inventory(self, group: str) -> Path:
        found = ROOT / "inventory" / f"lab-{group}.ini"
        if not found.exists():
            pytest.skip(f"the lab has no hosts of {group}: flagprov lab up --chips ...")
        return found

    def deploy(self, group: str, release: str) -> None:
        """All the way; a bare host is prepared on the way."""
        if self.serving.get(group) == release:
            return
        self.free(group)
        result = self.run("deploy", group, release, "--yes")
        assert result.code == 0, result
        assert {host["state"] for host in result.json["hosts"]} == {"changed"}, result
        self.serving[group] = release
        self.prepared.add(group)

    def prepare(self, group: str) -> None:
        """Hosts that have been provisioned, and serve nothing."""
        if group not in self.prepared:
            self.deploy(group, RELEASES[group])
        self.free(group)

    def free(self, group: str) -> None:
        """The last replica takes the mark of provisioning with it; doing that again would take minutes."""
        inventory = self.inventory(group)
        hosts = [line.split()[0] for line in inventory.read_text().splitlines() if "ansible_host=" in line]
        for host in hosts:
            self.lab.on(host, KEEP)
        result = self.lab.flagprov("teardown", inventory, "--yes")
        assert result.code == 0, result
        for host in hosts:
            self.lab.on(host, PUT_BACK)
        self.serving.pop(group, None)

    def run(self, verb: str, group: str, *words: str) -> Result:
        return self.lab.flagprov(verb, self.inventory(group), *words, "--output", "json")


@pytest.fixture(scope="module")
def chips() -> Iterator[Chips]:
    chips = Chips(Lab())
    yield chips
    for group in list(chips.serving):
        chips.free(group)


@pytest.mark.parametrize(("group", "host", "chip", "release"), CARDS)
def test_a_release_runs_as_its_card_asks_for(
    chips: Chips, group: str, host: str, chip: str, release: str
) -> None:
    chips.deploy(group, release)
    name = _container(chips.lab, host)
    inspected = json.loads(chips.lab.on(host, f"docker inspect {name}"))[0]
    image = json.loads(chips.lab.on(host, f"docker image inspect {inspected['Image']}"))[0]
    case = yaml.safe_load((CASES / f"{release}-{chip}.yaml").read_text())
    card = of_command(case["docker_run"], case["env"], case["serve"])
    here = of_container(inspected, image["Config"]["Env"], _engine(chips.lab, host, name))
    memory = int(chips.lab.on(host, "awk '/MemTotal/ {print $2}' /proc/meminfo"))
    listed = _filled([*COMMON, *case["differences"]], half_of_memory=str(memory // 1024 * (1 << 20) // 2))
    assert unexplained(differences(card, here), listed) == []


@pytest.mark.parametrize("group", list(RELEASES))
def test_nothing_is_left_to_do(chips: Chips, group: str) -> None:
    release = RELEASES[group]
    chips.deploy(group, release)
    again = chips.run("deploy", group, release, "--yes")
    assert again.code == 0, again
    assert {host["state"] for host in again.json["hosts"]} == {"unchanged"}, again
    states = chips.run("status", group).json["replicas"]
    assert {replica["state"] for replica in states} == {"ready"}, states
    checked = playbook(chips.inventory(group), "deploy", "-e", f"release={release}", "--check", "--diff")
    assert set(changes(checked).values()) == {0}, checked


def test_plain_ansible_ends_where_flagprov_ends(chips: Chips) -> None:
    chips.prepare("ascend")
    inventory, release = chips.inventory("ascend"), RELEASES["ascend"]
    done = playbook(inventory, "deploy", "-e", f"release={release}")
    chips.serving["ascend"] = release
    assert min(changes(done).values()) > 0, done
    assert chips.lab.flagprov("plan", inventory, release).code == 0
    assert {each["state"] for each in chips.run("status", "ascend").json["replicas"]} == {"ready"}


# --- hosts that are wrong ---


@dataclass(frozen=True)
class Wrong:
    """Something done to a prepared host, and what a deploy has to say to it."""

    group: str
    host: str
    release: str
    spoil: str
    mend: str
    words: tuple[str, ...]
    options: tuple[str, ...] = ()


DRIVER = "/usr/local/Ascend/driver/version.info"
WRONG = {
    "share-not-mounted": Wrong(
        "h100",
        "h100-1",
        "robobrain2-7b-fp8",
        "mkdir -p /kept && mount --bind /nfs /kept && umount /nfs && cp /etc/fstab /kept.fstab && "
        "echo 'filer.example:/models /nfs nfs4 defaults 0 0' >> /etc/fstab",
        "cp /kept.fstab /etc/fstab && mount --bind /kept /nfs && umount /kept",
        ("/nfs", "not mounted"),
    ),
    "driver-half-installed": Wrong(
        "ascend",
        "a3-1",
        "qwen3-4b",
        f"mv {DRIVER} /root/kept",
        f"mv /root/kept {DRIVER}",
        ("half installed",),
        ("--limit", "a3-1"),
    ),
    "driver-too-old": Wrong(
        "ascend",
        "a2-1",
        "qwen3-4b",
        f"cp -p {DRIVER} /root/kept && cp /run/flagprov-emulated/ascend-driver /root/loaded && "
        f"sed -i 's/^Version=.*/Version=24.1.rc1/' {DRIVER} && "
        "echo 24.1.rc1 > /run/flagprov-emulated/ascend-driver",
        f"mv /root/kept {DRIVER} && mv /root/loaded /run/flagprov-emulated/ascend-driver",
        ("24.1.rc1", "older than 25.0.rc1"),
        ("--limit", "a2-1"),
    ),
    "port-taken": Wrong(
        "h100",
        "h100-1",
        "robobrain2-7b-fp8",
        "systemd-run --unit squatter python3 -m http.server 9010",
        "systemctl stop squatter",
        ("port 9010 is taken by python3",),
    ),
    "a-device-in-use": Wrong(
        "h100",
        "h100-1",
        "qwq-32b",
        "sed -i.kept '$aBUSY=\"2\"' /etc/flagprov-emulated",
        "mv /etc/flagprov-emulated.kept /etc/flagprov-emulated",
        ("device 2 is used by python3",),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_host_is_left_out_before_anything_is_pulled(chips: Chips, name: str) -> None:
    wrong = WRONG[name]
    chips.prepare(wrong.group)
    images = chips.lab.on(wrong.host, IMAGES)
    try:
        chips.lab.on(wrong.host, wrong.spoil)
        refused(chips.run("deploy", wrong.group, wrong.release, "--yes", *wrong.options), *wrong.words)
    finally:
        chips.lab.on(wrong.host, wrong.mend)
    assert chips.lab.on(wrong.host, IMAGES) == images


def test_a2s_release_on_an_a3_host(chips: Chips) -> None:
    chips.prepare("ascend")
    images = chips.lab.on("a3-1", IMAGES)
    right = chips.inventory("ascend")
    wrong = right.with_name("lab-wrong.ini")
    wrong.write_text(right.read_text().replace("flagprov_chip=ascend-a3", "flagprov_chip=ascend-a2"))
    try:
        refused(
            chips.run("deploy", "wrong", "qwen3-4b", "--yes", "--limit", "a3-1"), "ascend-a2", "Ascend910"
        )
    finally:
        wrong.unlink()
    assert chips.lab.on("a3-1", IMAGES) == images


def test_an_image_for_another_processor(chips: Chips) -> None:
    chips.prepare("graviton")
    images = chips.lab.on("graviton-1", IMAGES)
    amd64 = "flagrelease-registry.cn-beijing.cr.aliyuncs.com/flagrelease/flagrelease:deepseek-flagos-nvidia"
    refused(chips.run("deploy", "graviton", "qwen2-7b", "--yes", "--set", f"image={amd64}"), "x86_64")
    assert chips.lab.on("graviton-1", IMAGES) == images


def test_a_dead_npu_and_a_missing_zone_file_are_gone_around(chips: Chips) -> None:
    """Seven of eight NPUs are well, and /etc/localtime's source is optional."""
    chips.prepare("ascend")
    zone = "/usr/share/zoneinfo/Asia/Shanghai"
    try:
        chips.lab.on(
            "a2-1",
            f"mv {zone} /root/zone && sed -i.kept 's/^UNHEALTHY=.*/UNHEALTHY=0/' /etc/flagprov-emulated",
        )
        result = chips.run("deploy", "ascend", "qwen3-4b", "--yes", "--limit", "a2-1")
        assert result.code == 0, result
        inspected = json.loads(chips.lab.on("a2-1", f"docker inspect {_container(chips.lab, 'a2-1')}"))[0]
        assert "ASCEND_RT_VISIBLE_DEVICES=1" in inspected["Config"]["Env"]
        assert "/etc/localtime" not in [mount["Destination"] for mount in inspected["Mounts"]]
    finally:
        chips.lab.on("a2-1", f"mv /root/zone {zone} && mv /etc/flagprov-emulated.kept /etc/flagprov-emulated")
        chips.free("ascend")


def test_a_second_release_needs_free_devices_and_a_port_of_its_own(chips: Chips) -> None:
    chips.deploy("h100", "robobrain2-7b-fp8")
    held = "8 devices are needed, 4 of 8 are free; held by robobrain2-7b-fp8-0"
    refused(chips.run("deploy", "h100", "qwq-32b", "--yes"), held)
    taken = "port 9010 belongs to replica robobrain2-7b-fp8-0"
    four = ("--set", "devices=4", "--set", "serve.tensor_parallel_size=4")
    refused(chips.run("deploy", "h100", "qwen2.5-vl-32b", "--yes", *four, "--set", "port=9010"), taken)


# --- all chips at once ---


def test_a_release_without_a_variant_for_a_host_says_so(chips: Chips) -> None:
    result = chips.lab.flagprov("plan", chips.inventory("all"), "qwen3-4b")
    assert result.code == 2, result
    assert "has no variant for" in result.err and "--limit" in result.err


def test_one_inventory_with_all_chips_takes_one_release(chips: Chips, tmp_path: Path) -> None:
    inventory = chips.inventory("all")
    there = [group for group in RELEASES if inventory.with_name(f"lab-{group}.ini").exists()]
    for group in there:
        chips.prepare(group)
    release = tmp_path / "everywhere.yaml"
    release.write_text(yaml.safe_dump(_everywhere()))
    result = chips.lab.flagprov("deploy", inventory, release, "--yes", "--output", "json")
    try:
        assert result.code == 0, result
        assert {host["state"] for host in result.json["hosts"]} == {"changed"}, result
        assert {replica["state"] for replica in result.json["replicas"]} == {"ready"}, result
    finally:
        chips.free("all")


def _everywhere() -> dict[str, Any]:
    """One model for all chips, each variant with the image and options of one of the catalog's."""
    catalog = ROOT / "flagprov" / "catalog" / "releases"
    ascend, h100, graviton = (
        yaml.safe_load((catalog / f"{name}.yaml").read_text()) for name in ("qwen3-4b", "qwq-32b", "qwen2-7b")
    )
    serve = {"served_model_name": "everywhere", "port": 9010, "enforce_eager": True}
    variants = {**ascend["variants"], **h100["variants"], **graviton["variants"]}
    for variant in variants.values():
        variant["serve"] = {"model": "/data/weights/Qwen3-4B", **serve}
        variant["devices"] = 1
        if not any(mount["target"] == "/data" for mount in variant["container"]["mounts"]):
            variant["container"]["mounts"] = [{"source": "/data", "target": "/data"}]
    kept = {key: ascend[key] for key in ("schema_version", "model", "weights", "readiness")}
    return {**kept, "name": "everywhere", "title": "One model on all chips", "variants": variants}


IMAGES = "docker images --quiet --no-trunc | sort"


def refused(result: Result, *words: str) -> None:
    assert result.code == 1, result
    (host,) = result.json["hosts"]
    for word in words:
        assert word in host["message"], result
    assert host["remedy"], result
    assert "Traceback" not in result.err


def _container(lab: Lab, host: str) -> str:
    """Replicas of one release are numbered over its hosts."""
    return lab.on(host, "docker ps --filter label=io.flagprov.replica --format '{{.Names}}'").strip()


def _engine(lab: Lab, host: str, name: str) -> list[str]:
    """The command line of `vllm serve` in the container, as its kernel has it."""
    said = lab.on(host, f"docker exec {name} sh -c 'for p in /proc/[0-9]*/cmdline; do cat $p; echo; done'")
    found = [line.strip("\0").split("\0") for line in said.splitlines()]
    commands = [words[at:] for words in found for at, word in enumerate(words) if word.endswith("/vllm")]
    assert commands, said
    return commands[0]


def _filled(entries: list[dict[str, str]], **values: str) -> list[dict[str, str]]:
    def fill(text: Any) -> Any:
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value) if isinstance(text, str) else text
        return text

    return [{key: fill(value) for key, value in entry.items()} for entry in entries]
