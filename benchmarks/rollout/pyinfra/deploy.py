import io
import json
import os
import pathlib
import shlex

from pyinfra import host
from pyinfra.facts.server import Command
from pyinfra.operations import files, server, systemd

work = host.data.work
question = json.dumps(
    {
        "model": work["model"],
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
        "temperature": 0,
    }
)
ASK = f"port={work['serves']}\n" + pathlib.Path(__file__).parents[1].joinpath("ask.sh").read_text()
RUNS = f"""grep -qF '"config": "{work["config"]}"' {shlex.quote(work["folder"])}/run/state.json 2>/dev/null"""
UNTIL = f"n=0; until {RUNS} && ask /v1/models ''; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.2; done; "
COMPLETION = f"ask /v1/chat/completions {shlex.quote(question)}"

if os.environ["WHAT"] == "status":
    server.shell(commands=[f"docker inspect -f . {shlex.quote(work['container'])}"])
    server.shell(commands=[f"systemctl is-active {shlex.quote(work['unit'])}"])
    server.shell(_shell_executable="bash", commands=[ASK + "ask /v1/models '' && ask /metrics ''"])
    server.shell(_shell_executable="bash", commands=[ASK + COMPLETION])
else:
    server.shell(commands=[f"docker image inspect -f . {shlex.quote(work['image'])}"])
    for path in work["directories"]:
        files.directory(path=path, mode="755")
    for file in work["files"]:
        files.put(src=io.StringIO(file["content"]), dest=file["path"], mode=file["mode"][1:])
    shown = "'{{index .Config.Labels \"made\"}}'"
    have = host.get_fact(
        Command, f"docker inspect -f {shown} {shlex.quote(work['container'])} 2>/dev/null || true"
    )
    if (have or "").strip() != work["made"]:
        unit, container = shlex.quote(work["unit"]), shlex.quote(work["container"])
        server.shell(
            commands=[
                f"systemctl stop {unit}; docker rm -f {container}; : > {shlex.quote(work['folder'])}/mounts"
            ]
        )
        server.shell(commands=[shlex.join(work["create"])])
    files.link(path=work["current"], target=work["config"])
    systemd.service(service=work["unit"], running=True, enabled=True)
    server.shell(_shell_executable="bash", commands=[ASK + UNTIL + COMPLETION])
