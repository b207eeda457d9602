"""Collectors on this machine, with stand-in tools and a docker that answers what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from facts_tools import case

from flagprov.doctor.read import read_facts
from flagprov.host import build, docker
from flagprov.host.facts import accelerators, devices, host, image, registry
from flagprov.host.facts.collect import facts
from flagprov.host.shell import Result
from flagprov.host.wire import Blocked


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No real engine, no real accelerator."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise Blocked("docker", "dockerd does not answer")

    monkeypatch.setattr(docker, "call", refuse)
    monkeypatch.setattr(devices, "NPU_SMI", ("npu-smi",))
    monkeypatch.setattr(accelerators, "HCCN", ("hccn_tool",))
    monkeypatch.setattr(accelerators, "HCCN_CONF", str(tmp_path / "hccn.conf"))
    monkeypatch.setattr(accelerators, "ASCEND", str(tmp_path / "Ascend"))


def test_every_answer_can_be_read_and_sent(tmp_path: Path) -> None:
    answer = json.loads(json.dumps(facts({"paths": [str(tmp_path), "/not/there"], "ports": [1]})))
    found = read_facts("h1", answer)
    assert found.docker is None
    assert found.unknown["docker"] == "dockerd does not answer"
    here, missing = found.path(str(tmp_path)), found.path("/not/there")
    assert here is not None and here.exists and here.free_mib and here.empty is True
    assert missing is not None and not missing.exists and missing.point == "/"
    assert found.system is not None and found.system.arch
    assert found.ports is not None and found.ports[0].holder is None


def test_nvidia(tool: Any) -> None:
    gpus, _, apps = case("nvidia_csv/two-h100").partition("--- apps\n")
    answers = {
        "-q -x": case("nvidia_xml/two-h100"),
        "nvlink -s": case("nvlink/all-up"),
        "--query-gpu": gpus,
        "--query-compute-apps": apps,
    }
    tool("nvidia-smi", answers)
    tool("modinfo", {"nvidia": case("version/modinfo")})
    tool("nv-fabricmanager", {"--version": case("version/fabric-manager")})
    tool("journalctl", {"Xid": case("xid/several")})
    found = read_facts("h1", facts({})).nvidia
    assert found is not None
    assert (found.loaded, found.on_disk) == (None, "535.183.06")
    assert found.report is not None and found.report.cuda == "12.4"
    assert found.links is not None and found.links[0].up == 18
    assert found.xids is not None and len(found.xids) == 3
    assert found.fabric_manager is not None and found.fabric_manager.version == "535.183.06"
    assert found.errors == {}


def test_gpus_of_the_report_have_the_numbers_of_the_devices(tool: Any) -> None:
    gpus = case("nvidia_csv/two-h100").partition("--- apps\n")[0].replace("\n1, ", "\n2, ")
    lost = "Unable to determine the device handle for GPU1: 0000:34:00.0: Unknown Error\n"
    answers = {"-q -x": lost + case("nvidia_xml/two-h100"), "--query-gpu": gpus, "--query-compute-apps": ""}
    tool("nvidia-smi", answers)
    tool("journalctl", {"": ""}, code=1)
    found = read_facts("h1", facts({})).nvidia
    assert found is not None and found.report is not None
    assert [gpu.index for gpu in found.report.gpus] == [0, 2]


def test_a_driver_that_does_not_answer(tool: Any) -> None:
    tool("nvidia-smi", {"": case("nvidia_csv/mismatch")}, code=18)
    tool("journalctl", {"": ""}, code=1)
    found = read_facts("h1", facts({}))
    assert found.nvidia is not None and found.nvidia.report is None
    assert "Driver/library version mismatch" in found.nvidia.errors["report"]
    assert "Driver/library version mismatch" in found.device_errors["nvidia-smi"]


def test_ascend(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "Ascend" / "driver").mkdir(parents=True)
    version = tmp_path / "Ascend" / "driver" / "version.info"
    version.write_text(case("key_value/ascend-driver-version.info"))
    tool("npu-smi", {"-m": case("npu_mapping/a2-with-mcu"), "info": case("npu_smi/a2-idle")})
    tool("hccn_tool", {"-link": case("hccn/link-up"), "-net_health": case("hccn/no-address")})
    toolkit = tmp_path / "toolkit" / "latest" / "aarch64-linux"
    toolkit.mkdir(parents=True)
    (toolkit / "ascend_toolkit_install.info").write_text(case("key_value/cann-toolkit"))
    found = read_facts("h1", facts({"cann": str(tmp_path / "toolkit")})).ascend
    assert found is not None
    assert found.cann == "8.3.RC2"
    assert (found.driver, found.firmware) == ("25.2.0", None)
    assert found.table is not None and len(found.table.devices) == 8
    assert found.mapping is not None and [each.logic_id for each in found.mapping] == [0, 1]
    assert found.network is not None
    assert (found.network[0].link, found.network[0].health) == ("UP", None)


def test_ports_of_npus_where_replicas_span_hosts(tool: Any, tmp_path: Path) -> None:
    tool("npu-smi", {"-m": case("npu_mapping/a2-with-mcu"), "info": case("npu_smi/a2-idle")})
    answers = {
        "-link": case("hccn/link-up"),
        "-net_health": case("hccn/health-success"),
        "-ip": case("hccn_address/one"),
        "-gateway": case("hccn_gateway/none"),
        "-tls": case("hccn_tls/off"),
    }
    tool("hccn_tool", answers)
    (tmp_path / "hccn.conf").write_text(case("key_value/hccn.conf"))
    found = read_facts("h1", facts({"spanning": True})).ascend
    assert found is not None and found.network is not None and found.hccn is not None
    first = found.network[0]
    assert first.ip == {"address": "192.0.2.80", "netmask": "255.255.255.0"}
    assert (first.gateway, first.tls, found.hccn["gateway_0"]) == ("", False, "192.0.2.1")
    alone = read_facts("h1", facts({})).ascend
    assert alone is not None and alone.network is not None and alone.network[0].tls is None


def test_no_tool_for_the_clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts({})["unknown"]["clock"] == "neither chronyc nor timedatectl answers"


def test_the_clock_of_timesyncd(tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool("chronyc", {"tracking": ""}, code=1)
    tool(
        "timedatectl",
        {"timesync-status": case("timesync/behind"), "show": case("timedatectl/ubuntu-synchronized")},
    )
    assert host.clock() == {"tool": "timedatectl", "synchronized": True, "offset_s": -0.001231}


def test_a_path_is_judged_by_the_mount_it_lies_under() -> None:
    table = [
        {"point": "/", "source": "/dev/sda1", "type": "ext4", "options": "rw", "root": "/"},
        {"point": "/nfs", "source": "filer:/x", "type": "nfs4", "options": "ro,relatime", "root": "/"},
    ]
    under = host._lies_under("/nfs/models", table, {"/nfs": "filer:/x"})
    assert (under["point"], under["network"], under["read_only"]) == ("/nfs", True, True)
    beside = host._lies_under("/nfsx", table, {"/nfs": "filer:/x"})
    assert (beside["point"], beside["planned_point"]) == ("/", None)
    unmounted = host._lies_under("/nfs", table[:1], {"/nfs": "filer:/x"})
    assert (unmounted["point"], unmounted["planned_source"]) == ("/", "filer:/x")


def test_what_the_bus_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kinds = [("0x10de", "0x030200", "0x2330")] * 2 + [("0x10de", "0x068000", "0x22a3")]
    kinds += [("0x19e5", "0x120000", "0xd803"), ("0x8086", "0x020000", "0x10fb")]
    for at, names in enumerate(kinds):
        (tmp_path / str(at)).mkdir()
        for file, text in zip(("vendor", "class", "device"), names, strict=True):
            (tmp_path / str(at) / file).write_text(text + "\n")
    monkeypatch.setattr(accelerators, "PCI", str(tmp_path))
    assert accelerators.bus() == {"nvidia": 2, "nvswitch": 1, "ascend": 1}
    assert accelerators.pci_ids() == {"10de:2330": 2, "19e5:d803": 1}
    monkeypatch.setattr(accelerators, "PCI", str(tmp_path / "none"))
    assert facts({})["bus"] is None


def test_a_look_comes_before_the_table_of_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted on demand is not in the table before somebody looks."""
    asked: list[str] = []

    def run(argv: list[str], timeout: float = 0) -> Result:
        asked.append(argv[0])
        return Result(0, "10 20 4096" if argv[0] == "stat" else "", "")

    def read(path: str, default: str = "") -> str:
        asked.append(path)
        mounted = "40 28 0:35 / /nfs rw - nfs4 filer:/x rw" if "stat" in asked else ""
        return mounted if path == "/proc/self/mountinfo" else default

    monkeypatch.setattr(host, "run", run)
    monkeypatch.setattr(host, "read", read)
    (found,) = host.paths(["/nfs/"])
    assert (found["point"], found["network"], found["exists"], found["empty"]) == ("/nfs", True, True, False)


def test_devices_that_are_used_are_not_tried(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        accelerators, "_cuda", lambda free: [{"tool": "nvidia-smi", "index": i, "tried": True} for i in free]
    )
    gpus, _, apps = case("nvidia_csv/two-h100").partition("--- apps\n")
    tool("nvidia-smi", {"--query-gpu": gpus, "--query-compute-apps": apps})
    found, _ = devices.devices()
    trials = accelerators.use({"nvidia-smi": None, "npu-smi": [0]}, found)
    by_index = {(trial["tool"], trial["index"]): trial for trial in trials}
    assert by_index["nvidia-smi", 1]["why"] == "in use"
    assert by_index["npu-smi", 0]["why"] == "not there"
    assert by_index["nvidia-smi", 0]["tried"] is True


class FakeRegistry(registry.Registry):
    """Answers by path; keeps what it was asked with."""

    def __init__(self, reference: str, answers: dict[str, Any]) -> None:
        super().__init__(reference)
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    def _open(self, url: str, authorization: str) -> Any:
        self.asked.append((url, authorization))
        found = next(answer for part, answer in self.answers.items() if part in url)
        if isinstance(found, Exception):
            raise found
        return found


CONFIG = {"architecture": "arm64", "config": {"Env": ["CANN_VERSION=8.2.rc1", "TOKEN=secret"]}}
MANIFEST = {"config": {"digest": "sha256:c"}, "layers": [{"size": 3 << 20}, {"size": 5 << 20}]}
INDEX = {
    "manifests": [
        {"digest": "sha256:m", "platform": {"architecture": "arm64", "os": "linux"}},
        {"digest": "sha256:x", "platform": {"architecture": "unknown", "os": "unknown"}},
    ]
}


def test_what_a_registry_says_of_an_image() -> None:
    asked = FakeRegistry("r.example:5000/a/b:1", {"manifests/1": MANIFEST, "blobs/sha256:c": CONFIG})
    assert asked.answer("arm64") == {
        "where": "registry",
        "arches": ["arm64"],
        "env": {"CANN_VERSION": "8.2.rc1"},
        "download_mib": 8,
        "why": "",
    }
    assert asked.asked[0][0] == "https://r.example:5000/v2/a/b/manifests/1"


def test_an_index_names_architectures() -> None:
    answers = {"manifests/1": INDEX, "manifests/sha256:m": MANIFEST, "blobs": CONFIG}
    assert FakeRegistry("r.example/b:1", answers).answer("arm64")["download_mib"] == 8
    assert FakeRegistry("r.example/b:1", answers).answer("amd64")["arches"] == ["arm64"]


def refused(code: int, challenge: str = "") -> Exception:
    from email.message import Message
    from urllib.error import HTTPError

    headers = Message()
    if challenge:
        headers["WWW-Authenticate"] = challenge
    return HTTPError("https://r", code, "no", headers, None)


def test_a_registry_that_says_nothing_of_an_image() -> None:
    for code in (403, 404, 500):
        with pytest.raises(Exception, match=rf"r\.example answers with {code}"):
            FakeRegistry("r.example/b:1", {"": refused(code)}).answer("amd64")
    with pytest.raises(Exception, match=r"registry r\.example: no route"):
        FakeRegistry("r.example/b:1", {"": OSError("no route")}).answer("amd64")


def hears(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """dockerd has no such image, and hears this of it in its registry."""

    def call(method: str, path: str, **_: Any) -> Any:
        if path.startswith("/images"):
            return []
        assert path == "/distribution/r.example/b:1/json"
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(docker, "call", call)


@pytest.mark.parametrize(
    ("answer", "where", "why"),
    [
        (docker.DockerError(404, "manifest unknown"), "missing", "manifest unknown"),
        (docker.DockerError(500, "manifest for b:1 not found: x"), "missing", "not found"),
        (docker.DockerError(403, "requested access to the resource is denied"), "missing", "denied"),
        (docker.DockerError(500, "Get https://r.example/v2/: i/o timeout"), "unreachable", "i/o timeout"),
        (OSError("timed out"), "unreachable", "no answer from the registry"),
    ],
)
def test_what_dockerd_hears_of_an_image(
    monkeypatch: pytest.MonkeyPatch, answer: Any, where: str, why: str
) -> None:
    hears(monkeypatch, answer)
    found = image.image({"reference": "r.example/b:1"})
    assert (found["where"], found["arches"]) == (where, [])
    assert why in found["why"]
    assert image.image({"reference": "r.example/b:1", "brought": True})["where"] == "brought"


def test_the_way_to_a_registry_is_dockerds(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"HttpsProxy": "http://proxy.example:3128", "NoProxy": "localhost,.local.example,10.0.0.0/30"}
    monkeypatch.setattr(docker, "call", lambda *_, **__: told)
    assert registry.proxies("r.example:5000") == {"https": "http://proxy.example:3128"}
    assert registry.proxies("r.local.example:5000") == registry.proxies("10.0.0.2:5000") == {}
    monkeypatch.setattr(docker, "call", lambda *_, **__: {"HttpsProxy": ""})
    assert registry.proxies("r.example") == {}


def test_a_proxy_whose_password_dockerd_hides_is_asked_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = {"HttpsProxy": "http://xxxxx:xxxxx@proxy.example:3128", "NoProxy": ""}
    monkeypatch.setattr(docker, "call", lambda *_, **__: told)
    monkeypatch.setattr(build, "PROXIES", str(tmp_path / "proxy.env"))
    assert registry.proxies("r.example") == {"https": told["HttpsProxy"]}
    (tmp_path / "proxy.env").write_text('HTTPS_PROXY="http://u:p@proxy.example:3128"\n')
    assert registry.proxies("r.example") == {"https": "http://u:p@proxy.example:3128"}


def test_only_dockerd_may_know_the_way_to_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [{"architecture": "arm64", "os": "linux"}, {"architecture": "unknown", "os": "unknown"}]
    hears(monkeypatch, {"Descriptor": {}, "Platforms": said})
    monkeypatch.setattr(image, "Registry", lambda name: FakeRegistry(name, {"": OSError("no route")}))
    there = {"where": "registry", "arches": ["arm64"], "env": {}, "download_mib": None, "why": ""}
    assert image.image({"reference": "r.example/b:1"}) == there
    answers = {"manifests": MANIFEST, "blobs": CONFIG}
    monkeypatch.setattr(image, "Registry", lambda name: FakeRegistry(name, answers))
    assert image.image({"reference": "r.example/b:1"})["download_mib"] == 8


def test_a_token_is_fetched_when_it_is_asked_for() -> None:
    challenge = 'Bearer realm="https://auth.example/token",service="r"'

    class Asking(FakeRegistry):
        def _open(self, url: str, authorization: str) -> Any:
            if "manifests" in url and not authorization:
                self.asked.append((url, authorization))
                raise refused(401, challenge)
            return super()._open(url, authorization)

    answers = {"auth.example/token": {"token": "abc"}, "manifests": MANIFEST, "blobs": CONFIG}
    registry = Asking("r.example/b:1", answers)
    assert registry.answer("arm64")["where"] == "registry"
    assert registry.asked[1][0].startswith("https://auth.example/token?service=r&scope=repository%3Ab%3Apull")
    assert registry.asked[2][1] == "Bearer abc"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("python:3", ("registry-1.docker.io", "library/python", "3")),
        ("a/b", ("registry-1.docker.io", "a/b", "latest")),
        ("docker.io/a/b:1", ("registry-1.docker.io", "a/b", "1")),
        ("10.0.0.2:5000/a/b:1", ("10.0.0.2:5000", "a/b", "1")),
        ("r.example/b@sha256:0", ("r.example", "b", "sha256:0")),
        ("r.example/b:1@sha256:0", ("r.example", "b", "sha256:0")),
    ],
)
def test_names_of_images(reference: str, parts: tuple[str, str, str]) -> None:
    assert registry.split(reference) == parts


def test_what_is_emulated_is_said_and_not_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "EMULATED", str(tmp_path))
    assert facts({})["emulated"] is True
    made_up = {"nvidia-smi": [{"index": 0, "processes": []}]}
    (trial,) = accelerators.use({"nvidia-smi": None}, made_up, emulated=True)
    assert (trial["tried"], trial["why"]) == (False, "emulated")


def test_a_trial_that_dies_is_an_error_of_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "run", lambda *_, **__: Result(-11, "", ""))
    (entry,) = accelerators._cuda([3])
    assert (entry["index"], entry["error"]) == (3, "the trial ended with code -11: without a word")
