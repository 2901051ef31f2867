from __future__ import annotations

from pathlib import Path

import pytest

from pool3.engines import ENGINES, PRECISIONS, Capabilities, choose
from pool3.engines.choice import capabilities, cpu_flags
from pool3.errors import EngineMissing, UsageError

BOTH = frozenset({"tensorflow", "openvino"})
PLAIN = Capabilities(engines=BOTH)
AMX = Capabilities(engines=BOTH, cpu_bfloat16=True)
GPU = Capabilities(engines=BOTH, cpu_bfloat16=True, gpu=True, gpu_float16=True)
OLD_GPU = Capabilities(engines=BOTH, gpu=True)
TENSORFLOW_ALONE = Capabilities(engines=frozenset({"tensorflow"}), cpu_bfloat16=True)


@pytest.mark.parametrize(
    ("machine", "name", "precision", "expected"),
    [
        (PLAIN, "auto", "auto", ("openvino", "float32")),
        (AMX, "auto", "auto", ("openvino", "bfloat16")),
        (AMX, "tensorflow", "auto", ("tensorflow", "bfloat16")),
        (AMX, "auto", "float32", ("openvino", "float32")),
        (TENSORFLOW_ALONE, "auto", "auto", ("tensorflow", "bfloat16")),
        (GPU, "auto", "auto", ("tensorflow", "float16")),
        (GPU, "openvino", "auto", ("openvino", "bfloat16")),
        (GPU, "auto", "float32", ("tensorflow", "float32")),
        (OLD_GPU, "auto", "auto", ("tensorflow", "float32")),
    ],
)
def test_auto_is_the_fastest_of_what_there_is(
    machine: Capabilities, name: str, precision: str, expected: tuple[str, str]
) -> None:
    assert choose(name, precision, machine) == expected


@pytest.mark.parametrize("machine", [PLAIN, AMX, GPU, OLD_GPU, TENSORFLOW_ALONE])
@pytest.mark.parametrize("name", ["auto", *ENGINES])
@pytest.mark.parametrize("precision", ["auto", *PRECISIONS])
def test_what_is_asked_for_by_name_is_given_or_refused(
    machine: Capabilities, name: str, precision: str
) -> None:
    try:
        chosen = choose(name, precision, machine)
    except EngineMissing:
        assert name not in ("auto", *machine.engines)
    except UsageError:
        assert precision not in ("auto", "float32")
    else:
        assert chosen[0] == name or name == "auto"
        assert chosen[1] == precision or precision == "auto"
        assert chosen[0] in machine.engines


@pytest.mark.parametrize(
    ("machine", "name", "precision"),
    [
        (PLAIN, "auto", "bfloat16"),
        (PLAIN, "tensorflow", "bfloat16"),
        (AMX, "auto", "float16"),
        (AMX, "openvino", "float16"),
        (GPU, "tensorflow", "bfloat16"),
        (OLD_GPU, "auto", "float16"),
    ],
)
def test_nothing_is_emulated(machine: Capabilities, name: str, precision: str) -> None:
    with pytest.raises(UsageError, match=f"natively on this machine .* found {precision}"):
        choose(name, precision, machine)


def test_what_is_missing_names_its_extra() -> None:
    with pytest.raises(EngineMissing, match=r"pip install '.\[openvino\]'"):
        choose("openvino", "auto", TENSORFLOW_ALONE)
    with pytest.raises(EngineMissing, match=r"TensorFlow or OpenVINO.*'.\[tensorflow\]'"):
        choose("auto", "auto", Capabilities(engines=frozenset()))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="auto, tensorflow, openvino, found 'abacus'"):
        choose("abacus", "auto", AMX)
    with pytest.raises(UsageError, match="bfloat16, float16, found 'int8'"):
        choose("auto", "int8", AMX)


@pytest.mark.parametrize(
    ("lines", "native"),
    [
        ("flags\t\t: fpu avx512_bf16 amx_bf16\n\nflags\t\t: fpu amx_bf16\n", True),
        ("flags\t\t: fpu avx512_bf16\nvmx flags\t: ept\n", True),
        ("flags\t\t: fpu amx_bf16\n\nflags\t\t: fpu\n", False),
        ("flags\t\t: fpu avx512f avx512_vnni\n", False),
        ("vmx flags\t: amx_bf16\n", False),
        ("Features\t: fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_bfloat16_is_read_from_the_flags(tmp_path: Path, lines: str, native: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(lines)
    assert capabilities(cpuinfo).cpu_bfloat16 == native


def test_a_machine_that_says_nothing_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(
    ("answer", "visible", "gpu", "float16"),
    [
        ("9.0", None, True, True),
        ("9.0", "0", True, True),
        ("6.1", None, True, False),
        ("9.0\n6.1", None, True, False),
        ("9.0", "", False, False),
        ("9.0", "-1", False, False),
        ("No devices were found", None, False, False),
    ],
)
def test_a_gpu_counts_when_it_may_be_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    visible: str | None,
    gpu: bool,
    float16: bool,
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{answer}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "2.21.0")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    machine = capabilities()
    assert (machine.gpu, machine.gpu_float16) == (gpu, float16)
