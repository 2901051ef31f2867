"""Restricts a task to the GPU that Spark assigned to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from pool3.errors import UsageError

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def pin_gpu(addresses: Sequence[str]) -> str:
    """Make only one GPU visible to this process; to be called before TensorFlow starts.

    Parameters
    ----------
    addresses
        The GPU addresses among the resources of the task, as Spark lists them: numbers of
        ``nvidia-smi`` or UUIDs. The first one is used; ``"0"`` is a valid address.

    Returns
    -------
    str
        The address that is used.

    Raises
    ------
    UsageError
        If there is no address, or TensorFlow has already started in this process on another GPU.

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
    # By default CUDA numbers GPUs by speed, but nvidia-smi by their position on the bus.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ[_VISIBLE] = address
    return address
