"""Can torch_npu of an image use these NPUs? Allocates, computes and reads back on each.

One file; run inside the image as `python3 npu_probe.py INDEX...` with the devices of these numbers handed to
the container, where they are counted from 0. The last line that it prints is a JSON list.
"""

from __future__ import annotations

import importlib
import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIZE = 1 << 20


def trials(torch: Any, indices: list[int]) -> list[dict[str, Any]]:
    found = []
    for position, index in enumerate(indices):
        error = None
        try:
            device = "npu:%d" % position
            ones = torch.ones(SIZE, dtype=torch.float32, device=device)
            total = int((ones + ones).sum().item())
            if total != 2 * SIZE:
                error = "the NPU gave a wrong result"
        except Exception as refused:  # whatever the driver's library says
            error = " ".join(str(refused).split())[:300] or type(refused).__name__
        found.append({"index": index, "tried": True, "error": error, "why": ""})
    return found


def main() -> None:
    indices = [int(each) for each in sys.argv[1:]]
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torch_npu")  # brings the device type
    except Exception as missing:  # also a library of CANN that cannot be loaded
        why = "torch_npu of the image cannot be imported: %s" % " ".join(str(missing).split())[:300]
        print(json.dumps([{"index": i, "tried": True, "error": why, "why": ""} for i in indices]))
        return
    print(json.dumps(trials(torch, indices)))


if __name__ == "__main__":
    main()
