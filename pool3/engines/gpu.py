"""Keeps a task on the GPU that Spark gave it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pool3.errors import UsageError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def pin_gpu(addresses: Sequence[str]) -> str:
    """Let this process see one GPU only; called before TensorFlow starts.

    Parameters
    ----------
    addresses
        The GPU addresses of the task's resources, as Spark gives them: numbers of ``nvidia-smi``
        or UUIDs. The first is taken; ``"0"`` is a GPU like any other.

    Returns
    -------
    str
        The address taken.

    Raises
    ------
    UsageError
        If there is none, or TensorFlow already runs in this process and sees something else.

    Examples
    --------
    >>> pin_gpu(["0"])  # doctest: +SKIP
    '0'
    """
    address = addresses[0].strip() if addresses else ""
    if not address:
        raise UsageError(
            "expected a GPU for this task, found none among its resources; set "
            "spark.task.resource.gpu.amount and spark.executor.resource.gpu.discoveryScript, or "
            "use a profile without GPUs"
        )
    if "tensorflow" in sys.modules and os.environ.get(_VISIBLE) != address:
        raise UsageError(
            f"expected TensorFlow on GPU {address}, found it started with {_VISIBLE}="
            f"{os.environ.get(_VISIBLE, '')!r} in this process; give each executor one GPU, or "
            "set spark.python.worker.reuse=false"
        )
    # CUDA numbers GPUs by speed unless told otherwise, nvidia-smi by their place on the bus.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ[_VISIBLE] = address
    return address
