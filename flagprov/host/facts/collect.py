"""Everything about this host, in one answer: what cannot be known is None, and why stands under `unknown`."""

from __future__ import annotations

import os
import time

from flagprov.host.facts import Unparsed, devices
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SCHEMA_VERSION = 1


class Gathering:
    """Facts by name; one that fails leaves the others alone."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.unknown: dict[str, str] = {}

    def add(self, name: str, collector: Callable[[], Any]) -> None:
        from flagprov.host.docker import DockerError

        self.facts[name] = None
        try:
            self.facts[name] = collector()
        except (Unparsed, DockerError) as error:
            self.unknown[name] = str(error)
        except Blocked as error:
            self.unknown[name] = error.message
        except OSError as error:
            self.unknown[name] = "%s: %s" % (error.filename or name, error.strerror or error)


def facts(request: dict[str, Any]) -> dict[str, Any]:
    """`paths` to look at, an `image` to ask for, and devices to `use`; each may be left out.

    `spanning`: a replica over several hosts is to run here.
    """
    from flagprov.host.facts import accelerators, host, image, rdma

    found, errors = devices.devices()
    gathering = Gathering()
    add = gathering.add
    emulated = os.path.exists(devices.EMULATED)
    gathering.facts.update(
        schema_version=SCHEMA_VERSION, devices=found, device_errors=errors, emulated=emulated
    )
    add("system", host.system)
    add("processor", host.processor)
    add("docker", host.docker)
    add("mounts", host.mounts)
    add("paths", lambda: host.paths(list(request.get("paths", ()))))
    add("clock", host.clock)
    add("interfaces", host.interfaces)
    add("ports", lambda: host.ports(list(request.get("ports", ()))))
    add("bus", accelerators.bus)
    add("pci_ids", accelerators.pci_ids)
    add("nvidia", lambda: accelerators.nvidia(found.get("nvidia-smi", ())))
    cann, spanning = request.get("cann") or accelerators.CANN, bool(request.get("spanning"))
    add("ascend", lambda: accelerators.ascend(cann, spanning))
    add("rdma", rdma.rdma)
    if request.get("image"):
        add("image", lambda: image.image(request["image"]))
    if request.get("use"):
        add("use", lambda: accelerators.use(dict(request["use"]), found, emulated, request.get("npu")))
    # Last: the controller compares it with its own clock when the answer comes in.
    return dict(gathering.facts, unknown=gathering.unknown, time=time.time())
