"""Inception-v3 trained on ImageNet: weights that Keras downloads, verified by their checksum."""

from __future__ import annotations

import hashlib
import logging
import os
import urllib.request
from pathlib import Path

from pool3.errors import EngineMissing, UsageError, install_remedy
from pool3.models.directory import ModelDirectory
from pool3.models.sources.keras_files import keras_file_model
from pool3.models.tensorflow import import_tensorflow

log = logging.getLogger(__name__)

FILE_NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"
MD5 = "bcbd6486424b2319ff4ef7d526e38f63"
"""Name and checksum as in ``keras/src/applications/inception_v3.py``."""

_TIMEOUT_S = 10


def imagenet_model() -> ModelDirectory:
    """Make a model from Keras' ImageNet weights; the first call downloads them.

    Raises
    ------
    UsageError
        If they are missing and cannot be downloaded; the message names the file, its folder and
        the alternative.
    EngineMissing
        If they are missing, and Keras, which downloads them, is not installed.
    """
    path = keras_folder() / FILE_NAME
    if not _is_intact(path):
        path = _download(path)
    return keras_file_model(path.read_bytes(), source="imagenet")


def keras_folder() -> Path:
    """Return the folder of Keras' weights: ``$KERAS_HOME/models``, else ``~/.keras/models``."""
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


def _download(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    import_tensorflow()
    try:
        from keras.src.applications.inception_v3 import WEIGHTS_PATH_NO_TOP  # noqa: PLC0415
        from keras.utils import get_file  # noqa: PLC0415
    except ImportError as error:
        raise EngineMissing(
            f"downloading ImageNet weights needs Keras, which cannot be imported ({error}); "
            f"{install_remedy('tensorflow')}"
        ) from error
    try:
        # Keras' download has no timeout, so a missing network is detected beforehand.
        request = urllib.request.Request(WEIGHTS_PATH_NO_TOP, method="HEAD")  # noqa: S310
        urllib.request.build_opener().open(request, timeout=_TIMEOUT_S).close()
        downloaded = get_file(
            FILE_NAME,
            WEIGHTS_PATH_NO_TOP,
            cache_dir=str(path.parent.parent),
            cache_subdir=path.parent.name,
            file_hash=MD5,
        )
        return Path(downloaded)
    except Exception as error:
        raise UsageError(
            f"Keras' ImageNet weights cannot be downloaded ({error}): put {FILE_NAME} "
            f"(md5 {MD5}, from {WEIGHTS_PATH_NO_TOP}) into {path.parent}, "
            "or use --model seeded, which needs no download"
        ) from error
