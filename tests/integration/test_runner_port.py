"""The runner's SSH port with a real sshd: FlagScale's form of call, each node's environment, who is refused.

FlagScale is a stub of the lines that it generates; the lab runs the real one (tests/e2e/test_ray.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import serve_environment  # noqa: F401  (the unit tests' helpers)
from launching import Running, launched, write

from flagprov.host.launcher_ssh import DAEMON, Runner
from flagprov.models.desired import Node
from flagprov.models.runner import RunnerKeys
from flagprov.runner_keys import make_runner_keys, runner_files

pytestmark = pytest.mark.skipif(not shutil.which("sshd"), reason="no sshd on this machine")
# Whoever does not ask for another comes from 127.0.0.1 there.
NODES = (Node("a", "127.0.0.3", "lo"), Node("b", "127.0.0.2", "lo"))
# `flagscale serve` as it is: it comes back, its script goes on, and a pid file names the engine.
FLAGSCALE = """#!/bin/bash
ray_path=$(realpath $(which ray))
echo "said by node: $(ssh -n -p PORT 127.0.0.2 "${ray_path} start --address=127.0.0.1:1 --num-gpus=8; echo rank \\$RANK \\$WORD" 2>&1)"
mkdir -p $FLAGPROV_EXP_DIR/serve_logs/pids
nohup bash -c "echo Application startup complete.; exec sleep 1000" >> $FLAGPROV_EXP_DIR/serve_logs/host_0_localhost.output 2>&1 &
echo $! > $FLAGPROV_EXP_DIR/serve_logs/pids/host_0_localhost.pid
"""  # noqa: E501


RAY = """#!/bin/sh
case "$*" in *status*) printf "Active:\\n 1 node_a\\n 1 node_b\\nPending:\\n" ;; esac
echo "ray $*"
"""


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.2", 0))) for _ in range(3)]
        found = [each.getsockname()[1] for each in sockets]
    yield found


def replica(tmp_path: Path, ports: list[int], stack: ExitStack, keys: list[RunnerKeys]) -> list[Running]:
    """Head and worker; `keys` has one for each, the same where all is well."""
    meeting, gcs, ssh = ports
    tools = {"bin/flagscale": FLAGSCALE.replace("PORT", str(ssh)), "bin/ray": RAY}
    write(tmp_path, tools)
    for name in tools:
        (tmp_path / name).chmod(0o755)
    running = []
    for rank in (0, 1):
        for name, text in runner_files(keys[rank], "r-0", NODES).items():
            write(tmp_path, {f"{rank}/keys/{name}": text})
            (tmp_path / f"{rank}/keys/{name}").chmod(0o600)
        said: dict[str, Any] = {
            "kind": "flagscale", "rank": rank, "flagscale": {"label": "r", "config": "conf/serve.yaml"},
            "env": {"RANK": str(rank), "WORD": "a b; $(false) 'c'"},
            "peers": {"hosts": ["a", "b"], "address": "127.0.0.1", "port": meeting, "token": "t"},
            "ray": {"address": NODES[rank].address, "head": "127.0.0.1", "nodes": 2,
                    "resources": ["--num-gpus=8"], "ports": {"port": gcs, "node-manager-port": 7}},
            "ssh": {"port": ssh, "address": NODES[rank].address, "keys": str(tmp_path / f"{rank}/keys")},
        }  # fmt: skip
        running.append(
            stack.enter_context(launched(tmp_path / str(rank), path=str(tmp_path / "bin"), **said))
        )
    return running


def test_flagscale_enters_a_node_in_that_nodes_environment(tmp_path: Path, ports: list[int]) -> None:
    keys = make_runner_keys()
    with ExitStack() as stack:
        head, worker = replica(tmp_path, ports, stack, [keys, keys])
        head.until("Application startup complete.")
        said = next(i for i, line in enumerate(head.lines) if line.startswith("said by node:"))
        # Ports and addresses are the replica's, whatever FlagScale's script had there; quotes survive.
        assert f"--address=127.0.0.1:{ports[1]}" in head.lines[said]
        assert "--node-ip-address=127.0.0.2 --node-manager-port=7" in head.lines[said]
        assert head.lines[said + 1] == "rank 1 a b; $(false) 'c'"
        head.process.terminate()
        assert head.finish() == 0
        worker.until("the engine was ended")
        worker.process.terminate()
        assert worker.finish() == 0
    assert not listens(ports[2])


def test_another_key_is_not_let_in(tmp_path: Path, ports: list[int]) -> None:
    with ExitStack() as stack:
        head, _ = replica(tmp_path, ports, stack, [make_runner_keys(), make_runner_keys()])
        assert "Host key verification failed" in head.until("said by node:") + head.until("verification")


def test_the_port_takes_no_password_no_terminal_and_no_other_address(
    tmp_path: Path, ports: list[int]
) -> None:
    keys = make_runner_keys()
    with ExitStack() as stack:
        head, _ = replica(tmp_path, ports, stack, [keys, keys])
        head.until("Application startup complete.")
        options = ["-F", str(tmp_path / "0/run/exp/first/ssh_config"), "-p", str(ports[2])]
        ask = ["ssh", *options, "-o", "PreferredAuthentications=password", "127.0.0.2", "true"]
        assert "Permission denied (publickey)" in call(ask)
        # One handshake at a time: the one that was refused may not have left yet.
        terminal = ["ssh", *options, "-tt", "127.0.0.2", "true"]
        answers = (call(terminal) for _ in range(100))
        said = next((text for text in answers if "kex_exchange_identification" not in text), "never let in")
        assert "PTY allocation request failed" in said
        forward = [
            "ssh",
            *options,
            "-o",
            "ExitOnForwardFailure=yes",
            "-R",
            "0:127.0.0.1:1",
            "127.0.0.2",
            "true",
        ]
        assert "remote port forwarding failed" in call(forward)
        assert not listens(ports[2], "127.0.0.1")


def test_ssh_audit_has_nothing_to_say_against_the_port(tmp_path: Path, ports: list[int]) -> None:
    keys = make_runner_keys()
    with ExitStack() as stack:
        head, _ = replica(tmp_path, ports, stack, [keys, keys])
        head.until("Application startup complete.")
        # One handshake at a time is the cure for DHEat; its rate test says that it cannot see that.
        ask = [sys.executable, "-m", "ssh_audit", "--json", "--skip-rate-test"]
        said = json.loads(call([*ask, "-p", str(ports[2]), "127.0.0.2"]))
    algorithms = [each for kind in ("kex", "key", "enc", "mac") for each in said[kind]]
    assert len(algorithms) > 4
    assert [each for each in algorithms if {"fail", "warn"} & each["notes"].keys()] == []
    assert said["cves"] == said["additional_notes"] == []
    assert "PerSourceMaxStartups 1" in (tmp_path / "1/run/exp/first/sshd_config").read_text()


def test_bash_does_not_run_the_files_of_the_image(tmp_path: Path) -> None:
    """What a .bashrc waits for, or leaves, would hold or end every entry; `enter` brings the environment."""
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SSH_CLIENT": "127.0.0.1 1 1"}
    write(tmp_path, {".bashrc": "echo it was run"})
    inner = re.search(r"^SetEnv (SHLVL)=(\d+)$", DAEMON, re.M)
    assert inner
    for env, said in ((home, "it was run\nhello\n"), (home | {inner[1]: inner[2]}, "hello\n")):
        done = subprocess.run(
            ["bash", "-c", "echo hello"], env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout == said


def test_an_older_openssh_gets_what_it_knows(tmp_path: Path) -> None:
    """Ubuntu 20.04 has 8.2: no hybrid key exchange, and none of the options that came with it."""
    write(tmp_path, {"bin/ssh": "#!/bin/sh\necho curve25519-sha256", "bin/sshd": "#!/bin/sh"})
    for name in ("ssh", "sshd"):
        (tmp_path / "bin" / name).chmod(0o755)
    for name, text in runner_files(make_runner_keys(), "r-0", NODES).items():
        write(tmp_path, {f"ssh/{name}": text})
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        runner = Runner(
            {"ssh": {"port": 1, "address": "127.0.0.2", "keys": f"{tmp_path}/ssh"}}, str(tmp_path)
        )
        runner.prepare({})
        runner.daemon()
    for name in ("ssh_config", "sshd_config"):
        text = (tmp_path / "exp/first" / name).read_text()
        assert "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org\n" in text
        assert not re.search("PerSource|AcceptedAlgorithms|sntrup", text)


def call(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


def listens(port: int, address: str = "127.0.0.2") -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((address, port)) == 0
