"""A host after playbooks/deploy.yml with nearly all changed."""

from __future__ import annotations

import json
from typing import Any

UNIT = "flagprov@fetched-0"


def test_it_serves_what_it_has_fetched(host: Any) -> None:
    assert host.service(UNIT).is_running
    models = host.run(
        "python3 -c %s",
        "import urllib.request as http; "
        "print(http.urlopen('http://127.0.0.1:9020/v1/models', timeout=30).read().decode())",
    )
    assert [each["id"] for each in json.loads(models.stdout)["data"]] == ["fetched"]


def test_the_container_has_no_more_than_it_needs(host: Any) -> None:
    (found,) = json.loads(host.run("docker inspect flagprov-fetched-0").stdout)
    assert not found["HostConfig"]["Privileged"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert found["Config"]["Labels"]["io.flagprov.image"] == "registry.example/lab/standin:0.8.0"


def test_what_was_set_for_this_deployment_is_on_record(host: Any) -> None:
    record = json.loads(host.file("/var/lib/flagprov/replicas/fetched-0/record.json").content_string)
    assert record["set"] == ["serve.max_model_len=256"]
