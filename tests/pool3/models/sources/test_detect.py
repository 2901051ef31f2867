"""Files that are no Inception-v3 and hostile archives: refused with a message, never opened."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pool3.errors import ModelError
from pool3.models import load_model
from pool3.models.graph.graphdef import GraphWriter
from pool3.models.sources import archives


def assert_refused(path: Path, message: str, data: bytes | None = None) -> None:
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(path))
    assert str(path) in str(caught.value)


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def torch_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([1]))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["m.pb", "m.ckpt", "m", "m.tar.gz"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (pickle.dumps({"a": 1}), "a pickle"),
        (torch_file(), r"data\.pkl"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\n\x05hello, this is no graph", "expected a frozen GraphDef"),
        (
            gzip.compress(b"no tar" * 500, mtime=0),
            "archive that is none, or is damaged or cut short",
        ),
    ],
)
def test_what_is_no_model_says_what_it_looks_like(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    assert_refused(tmp_path / name, message, data)


def test_a_resnet_is_named_in_the_error(tmp_path: Path) -> None:
    writer = GraphWriter()
    single = np.dtype(np.float32)
    last = writer.node("Placeholder", "input", dtype=single)
    kernel = writer.constant("kernel", np.zeros((1, 1, 3, 3), np.float32))
    for number in range(53):
        last = writer.node("Conv2D", f"conv{number}", last, kernel, T=single)
    assert_refused(
        tmp_path / "m.pb", "found 53 convolutions .* looks like ResNet50", writer.serialise()
    )


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (member("../../evil.pb"), "names inside of the archive"),
        (member("/etc/evil.pb"), "names inside of the archive"),
        (member("m.pb", tarfile.SYMTYPE, "/etc/passwd"), r"found 'm\.pb' of another type"),
        (member("m.pb", tarfile.LNKTYPE, "other"), r"found 'm\.pb' of another type"),
        (member("pipe", tarfile.FIFOTYPE), "found 'pipe' of another type"),
        (member("readme.txt"), r"expected a graph \(\.pb\).* found readme\.txt"),
    ],
)
def test_an_archive_that_means_harm_or_nothing_is_refused(
    tmp_path: Path, info: tarfile.TarInfo, message: str
) -> None:
    assert_refused(tmp_path / "m.tgz", message, tarred((info, b"")))
    assert [path.name for path in tmp_path.iterdir()] == ["m.tgz"]


def test_several_weights_in_one_archive_are_named(tmp_path: Path) -> None:
    data = tarred((member("a/one.pb"), b"x"), (member("b/two.ckpt"), b"x"))
    assert_refused(tmp_path / "m.tgz", r"found one\.pb, two\.ckpt; unpack it", data)
    data = tarred((member("a/one.pb"), b"x"), (member("b/one.pb"), b"x"))
    assert_refused(tmp_path / "m.tgz", r"expected one one\.pb in the archive, found two", data)


def test_a_member_that_declares_too_much_is_refused_unread(tmp_path: Path) -> None:
    info = member("m.pb")
    info.size = 3 << 30
    assert_refused(tmp_path / "m.tgz", "found 3221225472 declared", gzip.compress(info.tobuf()))


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 20)
    bombs = [(member(f"{number}.txt"), bytes(1 << 19)) for number in range(4)]
    assert_refused(tmp_path / "m.tgz", "1048576 bytes at most when unpacked", tarred(*bombs))


def test_an_archive_cut_short_is_reported(tmp_path: Path) -> None:
    noise: Any = np.random.default_rng(1).bytes(1 << 20)
    data = tarred((member("m.pb"), noise))
    assert_refused(tmp_path / "m.tgz", "damaged or cut short", data[: len(data) // 2])
