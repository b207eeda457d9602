"""What is wrong with a host is found before anything changes; it is named, left out, and the others go on."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .conftest import Lab

RELEASE = "qwen3-tiny-standin"
SHARD = "/srv/models/Qwen3-Tiny/model-00001-of-00003.safetensors"


def check(lab: Lab, host: str, words: str, inventory: Path | None = None) -> None:
    """`host` fails with a message, the other one serves, exit code 1."""
    result = lab.flagprov("deploy", inventory or lab.inventory, RELEASE, "--yes", "--output", "json")
    assert result.code == 1, result
    hosts = {entry["host"]: entry for entry in result.json["hosts"]}
    assert words in hosts[host]["message"], result
    assert hosts[host]["remedy"], result
    assert "Traceback" not in result.err
    (other,) = set(lab.hosts) - {host}
    assert hosts[other]["state"] in ("changed", "unchanged"), result
    assert lab.on(host, "docker ps -q --filter label=io.flagprov.replica", check=False) == ""


def test_a_port_that_something_else_has(clean_hosts: Lab) -> None:
    lab = clean_hosts
    lab.on("lab1", "systemd-run --unit squatter python3 -m http.server 9010")
    try:
        check(lab, "lab1", "port 9010 is taken by python3")
    finally:
        lab.on("lab1", "systemctl stop squatter")


def test_a_truncated_shard_everywhere_is_named(clean_hosts: Lab) -> None:
    lab = clean_hosts
    for host in lab.hosts:
        lab.on(host, f"cp {SHARD} /srv/kept && truncate -s -1 {SHARD}")
    try:
        result = lab.flagprov("deploy", lab.inventory, RELEASE, "--yes", "--output", "json")
        assert result.code == 1, result
        for entry in result.json["hosts"]:
            assert entry["state"] == "failed"
            assert "model-00001-of-00003.safetensors: truncated" in entry["message"], result
            assert entry["remedy"]
    finally:
        for host in lab.hosts:
            lab.on(host, f"mv /srv/kept {SHARD}")


def test_missing_weights_are_brought_from_a_host_that_has_them(clean_hosts: Lab) -> None:
    lab = clean_hosts
    # Files that were written since they were hashed are no source, and other tests put files back.
    lab.on("lab2", "rm -f /srv/models/Qwen3-Tiny/.flagprov-manifest.json")
    # An empty weights root would look like a mount that is not there.
    lab.on("lab1", "mkdir -p /srv/models/another && rm -rf /srv/models/Qwen3-Tiny")
    try:
        plan = lab.flagprov("plan", lab.inventory, RELEASE)
        assert plan.code == 3, plan
        assert "fetch" in plan.out
        lab.deploy(RELEASE)
        sums = "cd /srv/models/Qwen3-Tiny && sha256sum *.safetensors *.json"
        assert lab.on("lab1", sums) == lab.on("lab2", sums)
    finally:
        lab.on("lab1", "rmdir /srv/models/another")
        lab.up_again()  # mends the weights, whatever happened


def test_a_host_that_is_down(clean_hosts: Lab) -> None:
    lab = clean_hosts
    lab.docker("stop", "-t", "5", lab.container("lab2"))
    try:
        result = lab.flagprov("deploy", lab.inventory, RELEASE, "--yes", "--output", "json")
        assert result.code == 1, result
        hosts = {entry["host"]: entry["state"] for entry in result.json["hosts"]}
        assert hosts == {"lab1": "changed", "lab2": "unreachable"}
    finally:
        lab.docker("start", lab.container("lab2"))
        lab.until(lambda: lab.on("lab2", "echo up", check=False) == "up\n", 60, "lab2 is up")


def test_a_changed_host_key(clean_hosts: Lab) -> None:
    lab = clean_hosts
    known = lab.inventory.parent / ".flagprov" / "known_hosts"
    kept = known.read_text()
    lines = kept.splitlines()
    found = re.search(r"^lab1 ansible_host=(\S+)", lab.inventory.read_text(), re.M)
    assert found
    address = found.group(1)
    other = next(line.split(maxsplit=1)[1] for line in lines if not line.startswith(address))
    mine = [line for line in lines if not line.startswith(address)]
    known.write_text("\n".join([*mine, f"{address} {other}"]) + "\n")
    try:
        check(lab, "lab1", "host key")
    finally:
        known.write_text(kept)


def test_an_image_that_the_registry_does_not_have(clean_hosts: Lab, tmp_path: Path) -> None:
    lab = clean_hosts
    release = tmp_path / "mine.yaml"
    shipped = Path(__file__).parents[2] / "flagprov" / "catalog" / "releases" / f"{RELEASE}.yaml"
    release.write_text(
        shipped.read_text()
        .replace("standin:0.8.0", "standin:no-such-tag")
        .replace(f"name: {RELEASE}", "name: mine")
    )
    result = lab.flagprov("deploy", lab.inventory, release, "--yes", "--output", "json")
    assert result.code == 1, result
    for host in result.json["hosts"]:
        assert "no-such-tag" in host["message"], result
        assert host["state"] == "failed"


def test_a_full_disk(clean_hosts: Lab) -> None:
    """flagprov's own directory on a file system with no room."""
    lab = clean_hosts
    lab.on("lab1", "mkdir -p /var/lib/flagprov && mount -t tmpfs -o size=64k tmpfs /var/lib/flagprov")
    lab.on("lab1", "dd if=/dev/zero of=/var/lib/flagprov/filler bs=1k count=64 2>/dev/null", check=False)
    try:
        check(lab, "lab1", "No space left on device")
    finally:
        lab.on("lab1", "umount /var/lib/flagprov")


def test_an_engine_that_dies_at_start(clean_hosts: Lab) -> None:
    lab = clean_hosts
    order = "/srv/models/Qwen3-Tiny/standin.json"
    lab.on("lab1", f"""echo '{{"fail": "out of memory, on order"}}' > {order}""")
    try:
        result = lab.flagprov("deploy", lab.inventory, RELEASE, "--yes", "--output", "json")
        assert result.code == 1, result
        hosts = {entry["host"]: entry for entry in result.json["hosts"]}
        assert "ended at start" in hosts["lab1"]["message"]
        assert "out of memory, on order" in hosts["lab1"]["log"]
        assert hosts["lab2"]["state"] == "changed"
    finally:
        lab.on("lab1", f"rm -f {order}")


def test_a_user_without_sudo(clean_hosts: Lab, tmp_path: Path) -> None:
    lab = clean_hosts
    inventory = tmp_path / "hosts.ini"
    guest = "lab1 ansible_user=guest ansible_become=true ansible_host"
    inventory.write_text(lab.inventory.read_text().replace("lab1 ansible_host", guest, 1))
    shutil.copytree(lab.inventory.parent / ".flagprov", tmp_path / ".flagprov")
    check(lab, "lab1", "sudo", inventory)
