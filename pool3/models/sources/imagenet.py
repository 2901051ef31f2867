"""Inception-v3 trained on ImageNet: Keras' own download, under its checksum."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
from pathlib import Path

from pool3.errors import EngineMissing, UsageError
from pool3.models.directory import ModelDirectory
from pool3.models.sources.keras_files import keras_file_model
from pool3.models.tensorflow import import_tensorflow

log = logging.getLogger(__name__)

FILE_NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
MD5 = "bcbd6486424b2319ff4ef7d526e38f63"
"""Name and checksum as in ``keras/src/applications/inception_v3.py``."""

_TIMEOUT_S = 10


def imagenet_model() -> ModelDirectory:
    """Make the model of Keras' ImageNet weights, downloading them on the first call.

    Raises
    ------
    UsageError
        If they are not there and cannot be downloaded: names the file, its folder and what else
        to do.
    EngineMissing
        If they are not there, and Keras, which downloads them, is not installed.
    """
    path = keras_folder() / FILE_NAME
    if not _is_intact(path):
        path = _downloaded(path)
    return keras_file_model(path.read_bytes(), source="imagenet")


def keras_folder() -> Path:
    """Give the folder where Keras keeps weights: ``$KERAS_HOME/models``, else ``~/.keras``."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _is_intact(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() == MD5:
        return True
    log.warning("%s does not have the checksum %s of Keras' weights", path, MD5)
    return False


def _downloaded(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    import_tensorflow()
    try:
        from keras.src.applications.inception_v3 import WEIGHTS_PATH_NO_TOP  # noqa: PLC0415
        from keras.utils import get_file  # noqa: PLC0415
    except ImportError as error:
        raise EngineMissing(
            f"downloading ImageNet weights needs Keras, which cannot be imported ({error}); "
            "install it with: pip install 'pool3[tensorflow]'"
        ) from error
    try:
        # Keras' own download knows no time limit, so a dead network is found out first.
        request = urllib.request.Request(WEIGHTS_PATH_NO_TOP, method="HEAD")  # noqa: S310
        urllib.request.build_opener().open(request, timeout=_TIMEOUT_S).close()
        found = get_file(
            FILE_NAME,
            WEIGHTS_PATH_NO_TOP,
            cache_dir=str(path.parent.parent),
            cache_subdir=path.parent.name,
            file_hash=MD5,
        )
        return Path(found)
    except Exception as error:
        raise UsageError(
            f"Keras' ImageNet weights cannot be downloaded ({error}): put {FILE_NAME} "
            f"(md5 {MD5}, from {WEIGHTS_PATH_NO_TOP}) into {path.parent}, "
            "or use --model seeded, which needs no download"
        ) from error
