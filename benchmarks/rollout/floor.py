"""The floor: one paramiko connection and one exec per host, with one shell script that does the work.

floor.py WORK.json KEY KNOWN_HOSTS converge|status|reset|calm|probe
"""

from __future__ import annotations

import base64
import json
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko

ASK = Path(__file__).with_name("ask.sh").read_text()
PROBE = Path(__file__).with_name("probe.sh").read_text()
FANOUT = 64  # as flagprov's

HELPERS = r"""
changed=0
did() { changed=$((changed + 1)); }
put() { # path, mode, content in base64
    printf %s "$3" | base64 -d > "$1.new"
    if cmp -s -- "$1.new" "$1" && [ "$(stat -c %04a -- "$1")" = "$2" ]; then rm -f -- "$1.new"; return; fi
    chmod "$2" -- "$1.new"; mv -f -- "$1.new" "$1"; did
}
"""
WAIT = """
tries=0
until grep -qF "$runs" "$folder/run/state.json" 2>/dev/null && ask /v1/models ''; do
    tries=$((tries + 1)); [ $tries -lt 600 ] || exit 1; sleep 0.2
done"""


def script(host: dict[str, Any], work: str) -> str:
    if work == "probe":
        return PROBE
    lines = {"converge": converge, "status": status, "reset": reset, "calm": calm}[work](host)
    return "\n".join([ASK, HELPERS, f"port={host['serves']}", *lines])


def converge(host: dict[str, Any]) -> Iterator[str]:
    name, unit = shlex.quote(host["container"]), shlex.quote(host["unit"])
    yield f"docker image inspect -f . {shlex.quote(host['image'])} >/dev/null || exit 1"
    for path in map(shlex.quote, host["directories"]):
        yield f"[ -d {path} ] || {{ mkdir -p {path}; did; }}"
    for file in host["files"]:
        content = base64.b64encode(file["content"].encode()).decode()
        yield f"put {shlex.quote(file['path'])} {file['mode']} {content}"
    yield f"folder={shlex.quote(host['folder'])} current={shlex.quote(host['current'])}"
    yield f"runs={shlex.quote(runs(host))}"
    shown = shlex.quote('{{index .Config.Labels "made"}}')
    yield f"have=$(docker inspect -f {shown} {name} 2>/dev/null)"
    yield f'if [ "$have" != {shlex.quote(host["made"])} ]; then did'
    yield f"systemctl stop {unit}; docker rm -f {name} >/dev/null 2>&1"
    yield ': > "$folder/mounts"'
    yield f"{shlex.join(host['create'])} >/dev/null || exit 1; fi"
    config = shlex.quote(host["config"])
    yield f'if [ "$(readlink "$current")" != {config} ]; then did'
    yield f'ln -sfn {config} "$current.new"; mv -fT "$current.new" "$current"; fi'
    yield f"systemctl is-enabled -q {unit} 2>/dev/null || {{ systemctl enable -q {unit}; did; }}"
    yield f"systemctl is-active -q {unit} || {{ systemctl start {unit}; did; }}"
    yield WAIT
    yield f"ask /v1/chat/completions {shlex.quote(question(host))} || exit 1; echo changed=$changed"


def runs(host: dict[str, Any]) -> str:
    """What its launcher says once it has taken up this configuration."""
    return f'"config": "{host["config"]}"'


def status(host: dict[str, Any]) -> Iterator[str]:
    yield f"docker inspect -f '{{{{.State.Running}}}}' {shlex.quote(host['container'])} >/dev/null || exit 1"
    yield f"systemctl is-active -q {shlex.quote(host['unit'])} || exit 1"
    yield "ask /v1/models '' || exit 1; ask /metrics '' || exit 1"
    yield f"ask /v1/chat/completions {shlex.quote(question(host))} || exit 1; echo changed=0"


def reset(host: dict[str, Any]) -> Iterator[str]:
    """A provisioned host with the image, and nothing served."""
    name, unit = shlex.quote(host["container"]), shlex.quote(host["unit"])
    yield f"systemctl disable -q --now {unit}; docker rm -f {name}"
    yield "rm -rf /var/lib/flagprov/replicas/*; echo changed=1"


def calm(host: dict[str, Any]) -> Iterator[str]:
    """As if the other value had never been there; many changes in a row look like an engine that fails."""
    current = shlex.quote(host["current"])
    yield f"""for each in {shlex.quote(str(Path(host["current"]).parent))}/*/; do"""
    yield f'[ "$each" -ef {current} ] || rm -rf "$each"; done'
    yield f"systemctl reset-failed {shlex.quote(host['unit'])} 2>/dev/null; echo changed=0"


def question(host: dict[str, Any]) -> str:
    message = {"role": "user", "content": "Say hello."}
    return json.dumps({"model": host["model"], "messages": [message], "max_tokens": 8, "temperature": 0})


def main() -> None:
    work, key_file, known_hosts, what = sys.argv[1:]
    hosts = json.loads(Path(work).read_text())
    key, known = paramiko.Ed25519Key.from_private_key_file(key_file), paramiko.HostKeys(known_hosts)

    def one(host: dict[str, Any]) -> str:
        with paramiko.SSHClient() as client:
            client._host_keys = known
            client.connect(
                host["address"], host["port"], host["user"], pkey=key, allow_agent=False, look_for_keys=False,
                timeout=120, banner_timeout=120, auth_timeout=120,
            )  # fmt: skip
            stdin, stdout, stderr = client.exec_command("bash -s")
            stdin.write(script(host, what))
            stdin.channel.shutdown_write()
            said, errors = stdout.read().decode(), stderr.read().decode()
            return "" if stdout.channel.recv_exit_status() == 0 else f"{host['name']}: {said}{errors}"

    with ThreadPoolExecutor(min(len(hosts), FANOUT)) as pool:
        failures = [text for text in pool.map(one, hosts) if text]
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
