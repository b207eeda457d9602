import json
import os
import pathlib

with pathlib.Path(os.environ["WORK"]).open() as stream:
    _work = json.load(stream)
hosts = (
    [
        (host["name"], {"ssh_hostname": host["address"], "ssh_port": host["port"], "work": host})
        for host in _work
    ],
    {
        "ssh_user": "root",
        "ssh_key": os.environ["KEY"],
        "ssh_allow_agent": False,
        "ssh_look_for_keys": False,
        "ssh_config_file": "/dev/null",
        "ssh_known_hosts_file": os.environ["KNOWN_HOSTS"],
        "ssh_strict_host_key_checking": "yes",
    },
)
