from __future__ import annotations

import pytest

from flagprov.errors import UnreachableError
from flagprov.models.fleet import Connection
from flagprov.transport.sockets import dial


@pytest.mark.parametrize("address", ["x" * 64, "gpu..example"])
def test_what_can_be_no_name_is_said_in_words(address: str) -> None:
    with pytest.raises(UnreachableError) as refused:
        dial("gpu-1", Connection(address))
    assert refused.value.message == (f"the name {address} cannot be resolved: it is not the name of a host")
