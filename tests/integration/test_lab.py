"""The embedded fleet as it stands: needs `flagprov lab up --hosts 2`."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator

import pytest

from flagprov import lab
from flagprov.errors import UsageError
from flagprov.lab.layout import MODEL, WEIGHTS_ROOT, find_layout

LAYOUT = find_layout()
pytestmark = pytest.mark.skipif(not LAYOUT.inventory.exists(), reason="no lab is up")


def on(host: str, command: str) -> str:
    done = subprocess.run(
        [*lab.ssh_command(host), command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def hosts() -> tuple[str, ...]:
    return tuple(host.name for host in lab.status().hosts if not host.chip)


def up_again() -> None:
    """With the same hosts."""
    found = lab.status().hosts
    chips = [host.chip for host in found if host.chip]
    lab.up(len(found) - len(chips), chips=chips, on_progress=lambda text: None)


@pytest.fixture
def registry() -> Iterator[str]:
    """The registry's address, trusted by the first host for the time of a test."""
    address = lab.status().registry
    on("lab1", f"mkdir -p /etc/docker/certs.d/{address}")
    known = on("lab1", f"ls /etc/docker/certs.d/{address}")
    if not known:
        authority = LAYOUT.ca.read_text()
        on("lab1", f"cat > /etc/docker/certs.d/{address}/lab-test.crt <<'END'\n{authority}\nEND")
    yield address
    on("lab1", f"rm -f /etc/docker/certs.d/{address}/lab-test.crt")


def containers() -> dict[str, str]:
    listed = subprocess.run(
        ["docker", "ps", "--no-trunc", "--filter", f"label={LAYOUT.label}", "--format", "{{.Names}} {{.ID}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())


def test_every_host_is_a_whole_machine(hosts: tuple[str, ...]) -> None:
    assert len(hosts) >= 2
    for host in hosts:
        assert on(host, "ps -p 1 -o comm=") == "systemd"
        assert on(host, "docker info --format '{{.Driver}}'") == "overlay2"


def test_status_tells_what_is_there(hosts: tuple[str, ...]) -> None:
    for host in lab.status().hosts:
        if host.chip:  # it may be bare
            continue
        assert (host.running, host.ssh, host.docker) == (True, True, "active")
        assert host.address.startswith("10.")


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(UsageError, match="no host lab99"):
        lab.ssh_command("lab99")


def test_up_again_reuses_the_hosts_and_mends_the_weights(hosts: tuple[str, ...]) -> None:
    before, began = containers(), time.monotonic()
    on("lab1", f"truncate -s 10 {WEIGHTS_ROOT}/{MODEL}/model-00001-of-00003.safetensors")
    up_again()
    assert time.monotonic() - began < 40
    assert containers() == before
    size = on("lab1", f"stat -c %s {WEIGHTS_ROOT}/{MODEL}/model-00001-of-00003.safetensors")
    assert int(size) == (LAYOUT.model / "model-00001-of-00003.safetensors").stat().st_size


def test_the_registry_serves_what_is_locked(registry: str) -> None:
    trust = ssl.create_default_context(cafile=str(LAYOUT.ca))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    for release, image in (("qwen3-tiny", "vllm-cpu"), ("qwen3-tiny-standin", "standin")):
        lock = json.loads((LAYOUT.locks / f"{release}.json").read_text())
        for digest in lock["variants"]["cpu-x86"]["digests"][:1]:
            request = urllib.request.Request(
                f"https://{registry}/v2/{image}/manifests/{digest}",
                headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
            )
            with opener.open(request, timeout=10) as answer:
                assert answer.headers["Docker-Content-Digest"] == digest


def test_a_privileged_container_with_raised_limits_runs(registry: str) -> None:
    image = f"{registry}/standin:0.8.0"
    had = on("lab1", f"docker images --quiet {image}")
    limits = "--ulimit memlock=-1 --ulimit nofile=1048576:1048576 --ulimit stack=67108864"
    said = on("lab1", f"docker run --rm --privileged --network host {limits} {image} flagscale --version")
    assert "0.8.0" in said
    if not had:
        on("lab1", f"docker rmi {image}")


def test_a_restart_of_the_host_is_a_reboot() -> None:
    kept = on("lab2", "docker volume create lab-test; cat /etc/ssh/ssh_host_ed25519_key.pub")
    before = on("lab2", "stat -c %Y /proc/1")
    container = LAYOUT.container("lab2")
    subprocess.run(["docker", "restart", container], check=True, capture_output=True, timeout=90)
    up_again()  # waits for sshd and dockerd
    assert on("lab2", "stat -c %Y /proc/1") != before
    assert on("lab2", "docker volume rm lab-test; cat /etc/ssh/ssh_host_ed25519_key.pub") == kept
