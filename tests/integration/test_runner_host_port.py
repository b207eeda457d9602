"""The hosts' own sshd as the runner's port: real ones and FlagScale's lines, docker and Ray are stubs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import serve_environment
from launch_inputs import chip, facts, inputs
from launching import Running, launched, write

from flagprov.host.entry import script
from flagprov.host.launcher_processes import descendants, processes
from flagprov.models.desired import Node, Replica
from flagprov.runner.render import render
from flagprov.runner_keys import entry_options, make_runner_keys, mark, runner_files

pytestmark = pytest.mark.skipif(not shutil.which("sshd"), reason="no sshd on this machine")
ENTRY = Path(__file__).parents[2] / "flagprov/host/entry.py"
# What FlagScale 0.8.0 generates with runner.docker.
CALL = "ssh -n -p PORT 127.0.0.2 \"docker exec NAME /bin/bash -c 'SCRIPT'\""
FLAGSCALE = f"""#!/bin/bash
ray_path=$(realpath $(which ray))
{CALL.replace("SCRIPT", "${ray_path} stop")}
said=$({CALL.replace("SCRIPT", "${ray_path} start --address=127.0.0.1:1 --num-gpus=8; exit 3")} 2>&1)
echo "said by node: $? $said"
echo "another container: $({CALL.replace("SCRIPT", "id").replace("NAME", "other")} 2>&1)"
echo "another command: $(ssh -n -p PORT 127.0.0.2 id 2>&1)"
mkdir -p $FLAGPROV_EXP_DIR/serve_logs/pids
nohup bash -c "echo Application startup complete.; exec sleep 1000" >> $FLAGPROV_EXP_DIR/serve_logs/host_0_localhost.output 2>&1 &
echo $! > $FLAGPROV_EXP_DIR/serve_logs/pids/host_0_localhost.pid
"""  # noqa: E501
# Leaves a daemon behind, as the real one does.
RAY = """#!/bin/bash
case "$*" in
    *status*) printf "Active:\\n 1 node_a\\n 1 node_b\\nPending:\\n" ;;
    *--address*) (exec -a raylet sleep 1000) > /dev/null 2>&1 & ;;
esac
echo "ray $* with RANK $RANK"
"""
DOCKER = """#!/bin/bash
[ "$1 $2" = "exec flagprov-r-0" ] || { echo "no container $2"; exit 1; }
program=${3/#\\/run\\/flagprov/RUN}
exec setsid -w "$program" "${@:4}"
"""
SSHD = """ListenAddress 127.0.0.2
HostKey FOLDER/host_key
AuthorizedKeysFile FOLDER/authorized_keys
StrictModes no
PidFile none
SetEnv PATH=FOLDER/bin:/usr/bin:/bin
"""


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.2", 0))) for _ in range(3)]
        found = [each.getsockname()[1] for each in sockets]
    yield found


@contextmanager
def host(folder: Path, run: Path, port: int, host_key: str, line: str) -> Iterator[None]:
    """An sshd as it may be on any host, which knows nothing of us but a line of authorized_keys."""
    files = {
        "host_key": host_key, "authorized_keys": line + "\n", "bin/docker": DOCKER.replace("RUN", str(run)),
        "sshd_config": f"Port {port}\n" + SSHD.replace("FOLDER", str(folder)),
    }  # fmt: skip
    write(folder, files)
    (folder / "host_key").chmod(0o600)
    (folder / "bin/docker").chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)
    command = [str(shutil.which("sshd")), "-D", "-e", "-f", str(folder / "sshd_config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sshd:
        assert sshd.stderr
        assert any("Server listening" in line for line in sshd.stderr)
        try:
            yield
        finally:
            sshd.terminate()
            sshd.stderr.read()


@contextmanager
def replica(tmp_path: Path, ports: list[int], head_address: str = "127.0.0.1") -> Iterator[list[Running]]:
    meeting, gcs, ssh = ports
    keys = make_runner_keys()
    nodes = (Node("a", head_address, "lo"), Node("b", "127.0.0.2", "lo", keys.public_host_key))
    tools = {
        "bin/flagscale": FLAGSCALE.replace("PORT", str(ssh)).replace("NAME", "flagprov-r-0"),
        "bin/ray": RAY,
    }
    write(tmp_path, tools)
    for name in tools:
        (tmp_path / name).chmod(0o755)
    for name, text in runner_files(keys, "r-0", nodes).items():
        write(tmp_path, {f"0/keys/{name}": text})
        (tmp_path / "0/keys" / name).chmod(0o600)
    options = entry_options("r-0", nodes, str(ENTRY)).replace("PYTHON", sys.executable)
    line = f"{options} {keys.public_key} {mark('r-0')}"
    with ExitStack() as stack:
        stack.enter_context(host(tmp_path / "host", tmp_path / "1/run", ssh, keys.host_key, line))
        running = []
        for rank in (0, 1):
            said: dict[str, Any] = {
                "kind": "flagscale", "rank": rank, "flagscale": {"label": "r", "config": "conf/serve.yaml"},
                "env": {"RANK": str(rank)},
                "peers": {"hosts": ["a", "b"], "address": "127.0.0.1", "port": meeting, "token": "t"},
                "ray": {"address": nodes[rank].address, "head": "127.0.0.1", "nodes": 2,
                        "resources": ["--num-gpus=8"], "ports": {"port": gcs, "node-manager-port": 7}},
                "ssh": {"port": ssh, "address": f"127.0.0.{rank + 1}", "by_host": True,
                        "keys": str(tmp_path / "0/keys")},
            }  # fmt: skip
            folder = tmp_path / str(rank)
            running.append(stack.enter_context(launched(folder, path=str(tmp_path / "bin"), **said)))
        yield running


def test_flagscale_starts_ray_in_the_node_and_gets_nothing_else(tmp_path: Path, ports: list[int]) -> None:
    with replica(tmp_path, ports) as (head, worker):
        started = head.until("said by node:")
        assert started.startswith("said by node: 3 ray start")
        assert started.endswith("with RANK 1")
        assert f"--address=127.0.0.1:{ports[1]}" in started
        assert "--node-ip-address=127.0.0.2 --node-manager-port=7" in started
        refusal = "this key is for `docker exec flagprov-r-0 /bin/bash -c '...'` and nothing else"
        assert refusal in head.until("another container:")
        assert refusal in head.until("another command:")
        head.until("Application startup complete.")
        # What was started is the launcher's, which ends it.
        (ray,) = [pid for pid in descendants(worker.process.pid, processes()) if name(pid) == "raylet"]
        head.process.kill()
        worker.until("the engine was ended")
        worker.until("waiting for")
        assert not Path(f"/proc/{ray}").exists()


def test_from_elsewhere_the_key_opens_nothing(tmp_path: Path, ports: list[int]) -> None:
    with replica(tmp_path, ports, head_address="192.0.2.7") as (head, _):
        assert "Permission denied" in head.until("said by node:")


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_what_the_real_flagscale_generates_is_taken(tmp_path: Path, kind: str) -> None:
    key = make_runner_keys().public_host_key
    nodes = (Node("a", "127.0.0.1", "lo", key), Node("b", "127.0.0.2", "lo", key))
    launch = inputs(
        launch={"kind": "flagscale", "label": "r", "ssh_port": 2022},
        replica=Replica("r-0", "r", "c", ("a", "b"), tuple(range(8)), 9010, nodes),
        chip=chip(name="c", resource_type=kind),
        facts=facts(ray="2.55.0", sshd=False, ssh=True),
    )
    said = tmp_path / "said"
    stubs = {
        "bin/ssh": f"#!/bin/bash\nprintf '%s\\0' \"$*\" >> {said}\n",
        "bin/ray": "#!/bin/sh\n",
        "bin/pkill": "#!/bin/sh\n",
    }
    write(tmp_path, stubs | {f"conf/{name}": text for name, text in render(launch).items()})
    for stub in stubs:
        (tmp_path / stub).chmod(0o755)
    tools = serve_environment.serve_python().parent
    env = {
        "PATH": f"{tmp_path}/bin:{tools}:/usr/bin:/bin", "HOME": str(tmp_path),
        "FLAGPROV_CONFIG": str(tmp_path / "conf"), "FLAGPROV_EXP_DIR": str(tmp_path / "exp"),
    }  # fmt: skip
    alone = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]  # its script ends by name
    command = [*alone, "flagscale", "serve", "r", str(tmp_path / "conf/conf/serve.yaml")]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.exists(), done.stdout + done.stderr
    place = "-n -p 2022 127.0.0.2 "
    calls = said.read_text().rstrip("\0").split("\0")
    asked = [script(call.removeprefix(place), "flagprov-r-0") for call in calls if call.startswith(place)]
    ray = tmp_path / "bin/ray"
    assert len(asked) == len(calls) == 2
    assert asked[0] == f"{ray} stop"
    assert str(asked[1]).startswith(f"{ray} start --address=127.0.0.1:")
    assert str(asked[1]).endswith(f" --num-{kind}s=8")


def name(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return command.decode()
