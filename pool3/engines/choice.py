"""Which engine and precision run on this machine, from what the machine can do.

Deliberately not here: loading. Libraries are looked for without being imported, so that choosing
takes milliseconds where importing TensorFlow takes seconds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pool3.errors import EngineMissing, UsageError

ENGINES = ("tensorflow", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16")
AUTO = "auto"

# AMX multiplies tiles of bfloat16; AVX512-BF16 pairs of it. Without either, it would be emulated.
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
# TensorFlow rewrites graphs to float16 from this compute capability on: the first tensor cores.
_TENSOR_CORES = 7.0
_GPU_QUERY_TIMEOUT_S = 20


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a machine can do: the engines that can be imported, and what is computed natively."""

    engines: frozenset[str]
    cpu_bfloat16: bool = False
    gpu: bool = False
    gpu_float16: bool = False


def capabilities(cpuinfo: Path = Path("/proc/cpuinfo")) -> Capabilities:
    """Find out what this process can use.

    Parameters
    ----------
    cpuinfo
        Linux's description of the processors; where there is none, bfloat16 is taken as missing.

    Returns
    -------
    Capabilities
        A GPU counts only where ``nvidia-smi`` sees it, ``CUDA_VISIBLE_DEVICES`` does not hide it
        and TensorFlow is the package that can use it.
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
    """Give the flags that every processor has in common; none where the file cannot be read."""
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
    """Give the lowest compute capability of the GPUs that this process may see, if there is any."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES", "").strip():
        command.append(f"--id={visible}")
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_GPU_QUERY_TIMEOUT_S
        ).stdout
        return min((float(line) for line in answer.split()), default=None)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def choose(name: str, precision: str, machine: Capabilities) -> tuple[str, str]:
    """Choose the engine and the precision that are fastest among those asked for.

    Parameters
    ----------
    name
        One of `ENGINES`, or ``auto``: TensorFlow on a GPU, else OpenVINO where it is installed,
        else TensorFlow.
    precision
        One of `PRECISIONS`, or ``auto``: the fastest that the machine computes natively.
    machine
        What the machine can do; see `capabilities`.

    Returns
    -------
    name, precision
        Of `ENGINES` and `PRECISIONS`.

    Raises
    ------
    UsageError
        If there is no such engine or precision, or the machine does not compute in it natively.
    EngineMissing
        If the engine asked for, or any engine, is not installed.

    Examples
    --------
    >>> choose("auto", "auto", Capabilities(engines=frozenset({"openvino"}), cpu_bfloat16=True))
    ('openvino', 'bfloat16')
    """
    _check_known("an engine", name, ENGINES)
    _check_known("a precision", precision, PRECISIONS)
    chosen = _fastest_engine(machine) if name == AUTO else name
    if chosen not in machine.engines:
        raise EngineMissing(
            f"running a model needs {'TensorFlow or OpenVINO' if name == AUTO else chosen}, which "
            f"is not installed; install it with: pip install 'pool3[{chosen}]'"
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


def _check_known(what: str, found: str, known: tuple[str, ...]) -> None:
    if found not in (AUTO, *known):
        raise UsageError(f"expected {what} out of {', '.join((AUTO, *known))}, found {found!r}")


def _fastest_engine(machine: Capabilities) -> str:
    if "openvino" in machine.engines and not (machine.gpu and "tensorflow" in machine.engines):
        return "openvino"
    return "tensorflow"


def _native_precisions(name: str, machine: Capabilities) -> tuple[str, ...]:
    """Give the precisions that an engine computes natively here, the fastest first.

    On a GPU TensorFlow rewrites a graph to float16 only. On a CPU OpenVINO accepts float16 and
    computes slower with it than in float32.
    """
    if name == "tensorflow" and machine.gpu:
        return ("float16", "float32") if machine.gpu_float16 else ("float32",)
    return ("bfloat16", "float32") if machine.cpu_bfloat16 else ("float32",)
