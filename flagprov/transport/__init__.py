"""SSH to the hosts: connections, fan-out, an outcome per host, known hosts, jump hosts."""

from flagprov.transport.connections import KEPT, Connections
from flagprov.transport.program import Program, host_program
from flagprov.transport.session import Session

__all__ = ["KEPT", "Connections", "Program", "Session", "host_program"]
