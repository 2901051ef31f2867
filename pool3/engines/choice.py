"""Chooses the engine and the precision from the capabilities of the machine.

Loads nothing: libraries are looked up without being imported, so that a choice takes milliseconds
where importing TensorFlow takes seconds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pool3.errors import EngineMissing, UsageError, install_remedy

ENGINES = ("tensorflow", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16")
AUTO = "auto"

# AMX multiplies tiles of bfloat16, AVX512-BF16 pairs of values. Other CPUs emulate it.
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
# TensorFlow rewrites graphs to float16 from this compute capability (the first tensor cores) on.
_TENSOR_CORES = 7.0
_GPU_QUERY_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The engines that a machine can import, and the precisions that it computes natively."""

    engines: frozenset[str]
    cpu_bfloat16: bool = False
    gpu: bool = False
    gpu_float16: bool = False


def capabilities(cpuinfo: Path = Path("/proc/cpuinfo")) -> Capabilities:
    """Detect the capabilities of this process.

    Parameters
    ----------
    cpuinfo
        Linux's description of the processors; without this file, bfloat16 counts as missing.

    Returns
    -------
    Capabilities
        A GPU counts only if ``nvidia-smi`` lists it, ``CUDA_VISIBLE_DEVICES`` does not hide it
        and the TensorFlow package that can use GPUs is installed.
    """
    engines = frozenset(name for name in ENGINES if importlib.util.find_spec(name) is not None)
    compute = _gpu_compute_capability() if _tensorflow_may_use_gpus() else None
    return Capabilities(
        engines=engines,
        cpu_bfloat16=bool(_BFLOAT16_FLAGS & cpu_flags(cpuinfo)),
        gpu=compute is not None,
        gpu_float16=compute is not None and compute >= _TENSOR_CORES,
    )


def cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """Return the flags that all processors share; none if the file cannot be read."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = [
        frozenset(line.partition(":")[2].split())
        for line in lines
        if line.partition(":")[0].strip() == "flags"
    ]
    return frozenset.intersection(*flags) if flags else frozenset()


def _tensorflow_may_use_gpus() -> bool:
    try:
        importlib.metadata.version("tensorflow")
    except importlib.metadata.PackageNotFoundError:
        return False
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() not in ("", "-1")


def _gpu_compute_capability() -> float | None:
    """Return the lowest compute capability of the visible GPUs, None without a GPU."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES", "").strip():
        command.append(f"--id={visible}")
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GPU_QUERY_TIMEOUT_S
        ).stdout
        return min((float(line) for line in output.split()), default=None)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def choose(name: str, precision: str, machine: Capabilities) -> tuple[str, str]:
    """Choose the fastest engine and precision that fit the request.

    Parameters
    ----------
    name
        One of `ENGINES`, or ``auto``: TensorFlow on a GPU, else OpenVINO if it is installed, else
        TensorFlow.
    precision
        One of `PRECISIONS`, or ``auto``: the fastest that the machine computes natively.
    machine
        The result of `capabilities`.

    Returns
    -------
    name, precision
        One of `ENGINES` and one of `PRECISIONS`.

    Raises
    ------
    UsageError
        If the engine or the precision is unknown, or the machine does not compute in it natively.
    EngineMissing
        If the requested engine, or with ``auto`` every engine, is not installed.

    Examples
    --------
    >>> choose("auto", "auto", Capabilities(engines=frozenset({"openvino"}), cpu_bfloat16=True))
    ('openvino', 'bfloat16')
    """
    _check_option("an engine", name, ENGINES)
    _check_option("a precision", precision, PRECISIONS)
    chosen = _fastest_engine(machine) if name == AUTO else name
    if chosen not in machine.engines:
        raise EngineMissing(
            f"running a model needs {'TensorFlow or OpenVINO' if name == AUTO else chosen}, which "
            f"is not installed; {install_remedy(chosen)}"
        )
    native = _native_precisions(chosen, machine)
    if precision == AUTO:
        return chosen, native[0]
    if precision not in native:
        raise UsageError(
            f"expected a precision that {chosen} computes natively on this machine "
            f"({', '.join(native)}), found {precision}; an emulation would be slower than float32"
        )
    return chosen, precision


def _check_option(kind: str, value: str, names: tuple[str, ...]) -> None:
    if value not in (AUTO, *names):
        raise UsageError(f"expected {kind} out of {', '.join((AUTO, *names))}, found {value!r}")


def _fastest_engine(machine: Capabilities) -> str:
    if "openvino" in machine.engines and not (machine.gpu and "tensorflow" in machine.engines):
        return "openvino"
    return "tensorflow"


def _native_precisions(name: str, machine: Capabilities) -> tuple[str, ...]:
    """Return the precisions that an engine computes natively here, fastest first.

    On a GPU, TensorFlow rewrites a graph to float16 only. On a CPU, OpenVINO accepts float16 but
    computes more slowly with it than with float32.
    """
    if name == "tensorflow" and machine.gpu:
        return ("float16", "float32") if machine.gpu_float16 else ("float32",)
    return ("bfloat16", "float32") if machine.cpu_bfloat16 else ("float32",)
