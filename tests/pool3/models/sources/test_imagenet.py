from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pool3.errors import EngineMissing, UsageError
from pool3.models import ModelDirectory, load_model
from pool3.models.sources import imagenet

Write = Callable[..., Path]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder where the file is expected; the network leads nowhere."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    return tmp_path / "home" / "models"


@pytest.fixture(scope="module")
def download(write_weights: Write, tensors: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the true layout, with the seeded weights in it."""
    return write_weights(tmp_path_factory.mktemp("served") / imagenet.FILE_NAME, tensors)


@pytest.fixture
def right_checksum(monkeypatch: pytest.MonkeyPatch, download: Path) -> None:
    digest = hashlib.md5(download.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(imagenet, "MD5", digest)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, download: Path) -> Iterator[None]:
    import keras.src.applications.inception_v3 as keras_inception

    handler = partial(SimpleHTTPRequestHandler, directory=str(download.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        url = f"http://127.0.0.1:{http.server_port}/{imagenet.FILE_NAME}"
        monkeypatch.setattr(keras_inception, "WEIGHTS_PATH_NO_TOP", url)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield
        http.shutdown()


def test_without_a_network_the_error_says_what_to_do(folder: Path) -> None:
    import keras  # noqa: F401  (its import is not what is timed)

    started = time.monotonic()
    with pytest.raises(UsageError) as caught:
        load_model("imagenet")
    assert time.monotonic() - started < 15
    for word in (imagenet.FILE_NAME, imagenet.MD5, str(folder), "--model seeded", "https://"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("right_checksum")
def test_a_file_put_there_by_hand_is_used(
    folder: Path, download: Path, seeded: ModelDirectory
) -> None:
    (folder / imagenet.FILE_NAME).symlink_to(download)
    model = load_model("imagenet")
    assert (model.model_id, model.source) == (seeded.model_id, "imagenet")


@pytest.mark.usefixtures("right_checksum", "server")
def test_keras_downloads_it_once(folder: Path, seeded: ModelDirectory) -> None:
    assert load_model("imagenet").model_id == seeded.model_id
    assert (folder / imagenet.FILE_NAME).is_file()


@pytest.mark.usefixtures("server")
def test_a_download_with_another_checksum_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="cannot be downloaded"):
        load_model("imagenet")


def test_another_file_of_that_name_is_not_used(folder: Path) -> None:
    (folder / imagenet.FILE_NAME).write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UsageError, match="--model seeded"):
        load_model("imagenet")


def test_without_keras_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(EngineMissing, match=r"pip install '.\[tensorflow\]'"):
        load_model("imagenet")
