"""Pinning, in separate processes; whether TensorFlow computes on the GPU needs one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pool3.engines import pin_gpu
from pool3.errors import UsageError

PINNED = """
import json, os, sys
from pool3.engines import pin_gpu
assert "tensorflow" not in sys.modules
taken = pin_gpu(sys.argv[1:])
from pool3.engines.tensorflow_engine import import_tensorflow
import_tensorflow()
assert pin_gpu(sys.argv[1:]) == taken
seen = {key: value for key, value in os.environ.items() if key.startswith("CUDA_")}
try:
    pin_gpu(["5"])
except Exception as error:
    seen["other"] = str(error)
print(json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.parametrize("addresses", [["0"], ["3", "0"]])
def test_a_process_keeps_to_its_gpu(addresses: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PINNED, *addresses], capture_output=True, text=True, check=True
    )
    seen = json.loads(run.stdout)
    assert seen["CUDA_VISIBLE_DEVICES"] == addresses[0]
    assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "expected TensorFlow on GPU 5" in seen["other"]
    assert "spark.python.worker.reuse=false" in seen["other"]


@pytest.mark.parametrize("addresses", [[], [""], [" "]])
def test_a_task_without_a_gpu_is_an_error(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "kept")
    with pytest.raises(UsageError, match=r"found none .* spark\.task\.resource\.gpu\.amount"):
        pin_gpu(addresses)
