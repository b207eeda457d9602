"""The lab's network and its registry."""

from __future__ import annotations

import ipaddress
import shutil
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab.layout import REGISTRY_PORT, Layout
from flagprov.lab.shell import attempt, docker, run

CONFIG = """version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  tls:
    certificate: /etc/docker/registry/tls.pem
    key: /etc/docker/registry/tls.key
"""


def ensure_network(layout: Layout) -> ipaddress.IPv4Network:
    """The lab's bridge network; its subnet depends on the checkout, so two labs do not meet."""
    found = attempt(
        ["docker", "network", "inspect", layout.network, "--format", "{{(index .IPAM.Config 0).Subnet}}"]
    )
    if found.returncode == 0:
        return ipaddress.IPv4Network(found.stdout.decode().strip())
    first = int(layout.id, 16)
    said = ""
    for step in range(64):
        subnet = ipaddress.IPv4Network(f"10.213.{(first + step) % 256}.0/24")
        options = ("--label", layout.label, "--opt", f"com.docker.network.bridge.name={layout.bridge}")
        made = attempt(["docker", "network", "create", *options, "--subnet", str(subnet), layout.network])
        if made.returncode == 0:
            return subnet
        said = made.stderr.decode(errors="replace").strip()
        if "overlap" not in said:
            break
    raise LabError(f"docker cannot make the lab's network: {said}", remedy="docker network ls")


def registry_address(subnet: ipaddress.IPv4Network) -> str:
    return str(subnet[2])


def host_address(subnet: ipaddress.IPv4Network, number: int) -> str:
    return str(subnet[10 + number])


def chip_host_address(subnet: ipaddress.IPv4Network, number: int) -> str:
    """Above those of the plain hosts."""
    return str(subnet[210 + number])


def mirror_address(subnet: ipaddress.IPv4Network) -> str:
    return str(subnet[3])


def ensure_mirror(layout: Layout, subnet: ipaddress.IPv4Network, image: str) -> str:
    """A plain web server with the packages of emulated drivers, as a site's mirror; returns its URL."""
    address = mirror_address(subnet)
    running = attempt(["docker", "inspect", layout.mirror_container, "--format", "{{.State.Running}}"])
    if running.stdout.decode().strip() != "true":
        attempt(["docker", "rm", "--force", layout.mirror_container])
        docker(
            *("run", "--detach", "--init", "--name", layout.mirror_container, "--hostname", "mirror"),
            *("--label", layout.label, "--network", layout.network, "--ip", address),
            *("--volume", f"{layout.mirror}:/srv/mirror:ro", image),
            *("python3", "-m", "http.server", "--directory", "/srv/mirror", "80"),
        )
    return f"http://{address}"


def fetch_registry(layout: Layout) -> Path:
    """Debian's docker-registry program, unpacked and not installed, so that no service starts here."""
    program = layout.build / "docker-registry"
    if program.exists():
        return program
    scratch = layout.build / "registry-package"
    scratch.mkdir(parents=True, exist_ok=True)
    remedy = "apt-get update, then again"
    run(["sh", "-c", 'cd "$1" && apt-get -qq download docker-registry', "sh", scratch], remedy=remedy)
    (package,) = scratch.glob("*.deb")
    run(["dpkg-deb", "--extract", package, scratch])
    shutil.move(scratch / "usr/bin/docker-registry", program)
    shutil.rmtree(scratch)
    return program


def ensure_registry(layout: Layout, subnet: ipaddress.IPv4Network, image: str) -> str:
    """The registry, serving the storage over TLS; returns ADDRESS:PORT."""
    address = registry_address(subnet)
    endpoint = f"{address}:{REGISTRY_PORT}"
    if layout.ca.exists() and not _answers(layout, endpoint):
        attempt(["docker", "start", layout.registry])
    if not (layout.ca.exists() and _wait(layout, endpoint, 2)):
        program = fetch_registry(layout)
        attempt(["docker", "rm", "--force", layout.registry])
        tls = _certificates(layout, address)
        (tls / "config.yml").write_text(CONFIG)
        docker(
            *("run", "--detach", "--init", "--name", layout.registry, "--hostname", "registry"),
            *("--label", layout.label, "--network", layout.network, "--ip", address),
            *("--volume", f"{layout.blobs}:/var/lib/registry", "--volume", f"{tls}:/etc/docker/registry:ro"),
            *(
                "--volume",
                f"{program}:/usr/local/bin/docker-registry:ro",
                "--restart",
                "unless-stopped",
                image,
            ),
            *("/usr/local/bin/docker-registry", "serve", "/etc/docker/registry/config.yml"),
        )
        if not _wait(layout, endpoint, 15):
            said = attempt(["docker", "logs", "--tail", "5", layout.registry])
            tail = (said.stdout + said.stderr).decode(errors="replace").strip()
            raise LabError(f"the registry at {endpoint} does not answer: {tail}", remedy="flagprov lab down")
    return endpoint


def _wait(layout: Layout, endpoint: str, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not (there := _answers(layout, endpoint)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return there


def _answers(layout: Layout, endpoint: str) -> bool:
    try:
        trust = ssl.create_default_context(cafile=str(layout.ca))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        with opener.open(f"https://{endpoint}/v2/", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _certificates(layout: Layout, address: str) -> Path:
    """A private CA and the registry's certificate, made anew with every registry."""
    tls = layout.build / "tls"
    shutil.rmtree(tls, ignore_errors=True)
    tls.mkdir(parents=True, mode=0o700)
    layout.site.mkdir(parents=True, exist_ok=True)
    openssl = _openssl(tls, layout.ca, f"/CN=flagprov lab {layout.id}")
    (tls / "names").write_text(f"subjectAltName=IP:{address},DNS:registry\nextendedKeyUsage=serverAuth\n")
    for words in openssl:
        run(["openssl", *words])
    (tls / "ca.key").unlink()
    return tls


def _openssl(tls: Path, ca: Path, name: str) -> tuple[tuple[str | Path, ...], ...]:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    years = ("-days", "3650")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    authority = ("-CA", ca, "-CAkey", tls / "ca.key", "-CAcreateserial", "-CAserial", tls / "serial")
    signed = ("-in", tls / "tls.csr", "-out", tls / "tls.pem")
    return (
        ("req", "-x509", *key, *years, *usage, "-subj", name, "-keyout", tls / "ca.key", "-out", ca),
        ("req", *key, "-subj", "/CN=registry", "-keyout", tls / "tls.key", "-out", tls / "tls.csr"),
        ("x509", "-req", *years, *authority, "-extfile", tls / "names", *signed),
    )
