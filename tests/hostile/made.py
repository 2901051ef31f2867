"""A generated file: its name, its bytes, and the codes that its row may have."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pool3.gallery import draw_scene

OK = None
SCENE = draw_scene(3, size=(120, 80))


@dataclass(frozen=True)
class Made:
    """A file of the corpus; a code of None is a picture that decodes."""

    name: bytes
    data: bytes
    codes: frozenset[str | None]


def made(name: str | bytes, data: bytes, *codes: str | None) -> Made:
    return Made(name if isinstance(name, bytes) else name.encode(), data, frozenset(codes))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
