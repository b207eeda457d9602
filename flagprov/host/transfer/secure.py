"""TLS between the nodes of a transfer: both show certificates of this run, bound to their addresses."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import tempfile

from flagprov.host.transfer.frames import Broken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTROLLER = "controller.flagprov"


class Secure:
    """Contexts made of the PEM texts of a transfer's spec."""

    def __init__(self, tls: dict[str, str]) -> None:
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # OpenSSL reads keys from files only; these live in memory and for a moment.
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            paths = []
            for name in ("cert", "key"):
                paths.append(os.path.join(folder, name))
                with open(os.open(paths[-1], os.O_WRONLY | os.O_CREAT, 0o600), "w") as stream:
                    stream.write(tls[name])
            for context in (self.server, self.client):
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.load_cert_chain(paths[0], paths[1])
                context.load_verify_locations(cadata=tls["ca"])
                context.verify_mode = ssl.CERT_REQUIRED

    def accept(self, sock: socket.socket, timeout: float) -> tuple[ssl.SSLSocket, str]:
        """The connection and the other side's name, which its address has to be bound to."""
        _tune(sock)
        sock.settimeout(timeout)
        address = sock.getpeername()[0]
        try:
            secured = self.server.wrap_socket(sock, server_side=True)
        except (OSError, ValueError) as error:
            sock.close()
            raise Broken("no TLS: %s" % error) from None
        names, addresses = _bound(secured.getpeercert() or {})
        if CONTROLLER not in names and _plain(address) not in addresses:
            secured.close()
            raise Broken("%s shows a certificate of %s" % (address, ", ".join(names + addresses)))
        return secured, names[0] if names else ""

    def connect(self, sock: socket.socket, name: str, timeout: float) -> ssl.SSLSocket:
        _tune(sock)
        sock.settimeout(timeout)
        try:
            return self.client.wrap_socket(sock, server_hostname=name)
        except (OSError, ValueError) as error:
            sock.close()
            raise Broken("no TLS: %s" % error) from None


def _tune(sock: socket.socket) -> None:
    """What is small goes at once; one long stream fills its link, which bbr leaves a part of to others."""
    for option, value in ((socket.TCP_NODELAY, 1), (socket.TCP_CONGESTION, b"cubic")):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError:  # through SSH it is no TCP socket, and a kernel may lack cubic
            continue


def _bound(certificate: dict[str, Any]) -> tuple[list[str], list[str]]:
    names, addresses = [], []
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "DNS":
            names.append(str(value))
        elif kind == "IP Address":
            addresses.append(_plain(str(value).strip()))
    return names, addresses


def _plain(address: str) -> str:
    """An IPv4 address stays itself where a socket shows it as IPv6."""
    try:
        found = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
