"""A bundle is enough for its fleet, or it is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.distribute import fan_out, offline
from flagprov.distribute.bundle import Bundle, BundledImage, Packages
from flagprov.distribute.layouts import ImageLayout
from flagprov.errors import HostError, UsageError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Problem, Survey
from flagprov.models.plan import LeftOut
from flagprov.preparation import Job
from flagprov.site import Site

RELEASE = load_release("qwen3-tiny-standin")
DEBIAN = "debian-12-x86_64"
WHOLE = [
    "/usr/bin/python3",
    "/sbin/ip",
    "/sbin/sysctl",
    "/usr/sbin/update-ca-certificates",
    "/run/systemd/container",
]
FRESH = {
    "platform": DEBIAN,
    "manager": "apt",
    "kernel": "6.1.0",
    "there": WHOLE,
    "versions": {},
    "programs": {},
    "addresses": [],
}
SURVEY = Survey("", "x86_64", "", "", 1, 1, None, None, {}, (), {}, {})


class Hosts:
    """Stands in for the connections: each host answers what it is told to."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    def each(self, hosts: Sequence[Host], function: Callable[[Any], Any], keep: int = 0) -> dict[str, Any]:
        return {host.name: self._one(host, function) for host in hosts}

    def _one(self, host: Host, function: Callable[[Any], Any]) -> Any:
        self.host = host
        answer = self.answers[host.name]
        return answer if isinstance(answer, HostError) else function(self)

    def ask(self, request: Mapping[str, Any]) -> Any:
        self.asked.append((self.host.name, request["op"]))
        return dict(self.answers[self.host.name])


def bundle(tmp_path: Path, **versions: str) -> Bundle:
    image = BundledImage(("cpu-x86",), "amd64", ImageLayout(tmp_path, "r/m:1", "sha256:1", (), ()))
    files = tuple((f"{name}.deb", 3, "a" * 64) for name in versions)
    packages = {DEBIAN: Packages(files, versions)} if versions else {}
    return Bundle(tmp_path, RELEASE, (image,), (), packages)


def job(tmp_path: Path, held: Bundle, *hosts: Host, gateways: tuple[Host, ...] = ()) -> Job:
    fleet = Fleet(tmp_path / "lab.ini", hosts, gateways)
    return Job(fleet, Site(tmp_path), RELEASE, load_chips(), {}, None, (), {}, bundle=held)


def host(name: str, **variables: Any) -> Host:
    return Host(name, Connection("192.0.2.1"), chip="cpu-x86", variables=variables)


def said(job: Job, answers: Mapping[str, Any], needy: Sequence[str], arch: str = "x86_64") -> str:
    surveys = {name: replace(SURVEY, host=name, arch=arch) for name in needy}
    connections: Any = Hosts(answers)
    with pytest.raises(UsageError) as caught:
        offline.refuse(offline.lacks(job, connections, surveys, needy))
    return str(caught.value)


def test_what_is_missing_is_named_with_its_hosts_and_the_command(tmp_path: Path) -> None:
    held = job(tmp_path, bundle(tmp_path), host("h1"), host("h2"), host("h3"))
    text = said(held, {"h1": FRESH, "h2": FRESH}, ["h1", "h2"])
    assert "no docker.io 20.10.5 or later for debian-12-x86_64 (h1, h2)" in text
    assert f"flagprov bundle {RELEASE.name} --chip cpu-x86 --platform {DEBIAN} --output FILE.tar" in text
    assert f"--packages {DEBIAN}=DIRECTORY" in text


def test_a_host_that_has_it_or_gets_it_is_fine(tmp_path: Path) -> None:
    docker = {**FRESH, "there": [*WHOLE, "/usr/bin/dockerd"]}
    connections: Any = Hosts({"h1": docker, "h2": FRESH, "h3": HostError("h3", "connect", "no answer")})
    held = job(tmp_path, bundle(tmp_path, **{"docker.io": "20.10.24"}), host("h1"), host("h2"), host("h3"))
    surveys = {name: replace(SURVEY, host=name) for name in ("h1", "h2")}
    assert offline.lacks(held, connections, surveys, ["h1", "h2", "h3"]) == []
    offline.refuse([LeftOut("h3", Problem("connect", "no answer"))])
    connections = Hosts({})
    assert offline.lacks(held, connections, surveys, []) == []  # nobody is provisioned: nobody is asked


def test_gateways_need_their_proxy(tmp_path: Path) -> None:
    held = job(tmp_path, bundle(tmp_path), host("h1"), gateways=(host("g1"),))
    assert "no haproxy for debian-12-x86_64 (g1)" in said(held, {"g1": FRESH}, [])
    bare = {**FRESH, "there": WHOLE[:1]}  # and what every host that is provisioned needs
    assert "no ca-certificates, haproxy, iproute2, procps" in said(held, {"g1": bare}, [])


def test_other_things_that_a_bundle_cannot_bring(tmp_path: Path) -> None:
    held = job(tmp_path, bundle(tmp_path, **{"docker.io": "20"}), host("h1"))
    assert "no python3" in said(held, {"h1": HostError("h1", "python", "none")}, ["h1"])
    assert "no image of qwen3-tiny-standin for cpu-x86 on arm64" in said(
        held, {"h1": FRESH}, ["h1"], "aarch64"
    )
    address = "https://mirror.example/ascend"
    held = replace(held, fleet=Fleet(tmp_path / "lab.ini", (host("h1", ascend_driver_source=address),)))
    assert f"ascend_driver_source is {address}" in said(held, {"h1": FRESH}, ["h1"])


def test_another_chip_is_refused_without_asking_anybody(tmp_path: Path) -> None:
    other = replace(host("h2"), chip="graviton4")
    with pytest.raises(UsageError, match=r"no image of qwen3-tiny-standin for graviton4 \(h2\)") as caught:
        bundle(tmp_path).check(Fleet(tmp_path / "lab.ini", (host("h1"), other)))
    assert "--chip cpu-x86 --chip graviton4" in str(caught.value)


def test_packages_go_to_hosts_of_their_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[list[str], Any]] = []

    class Transfer:
        def __init__(self, *given: Any, stage: str) -> None:
            self.content, self.source, self.targets = given[2], given[3], given[4]

        def run(self) -> dict[str, Any]:
            names = [target.host.name for target in self.targets]
            sent.append((names, [name for name, _, _ in self.content.files]))
            broken = HostError("h2", "transfer", "disk full")
            return {name: broken if name == "h2" else {"changed": 1} for name in names}

    monkeypatch.setattr(fan_out, "Transfer", Transfer)
    hosts = [host(name) for name in ("h1", "h2", "h3", "h4")]
    gone = HostError("h4", "connect", "no answer")
    connections: Any = Hosts(
        {"h1": FRESH, "h2": FRESH, "h3": {**FRESH, "platform": "ubuntu-22.04-x86_64"}, "h4": gone}
    )
    held = job(tmp_path, bundle(tmp_path, **{"docker.io": "20"}), *hosts)
    brought, failures = offline.bring(held, connections, hosts, lambda event: None)
    assert sent == [(["h1", "h2"], ["docker.io.deb"])]
    assert brought == {"h1": True, "h2": True, "h3": False}
    assert {*failures} == {"h2", "h4"}
