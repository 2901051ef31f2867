"""The corpus of broken and unusual files, with the same bytes in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.hostile import bombs, damaged, kinds
from tests.hostile.made import Made, made

GROUPS: dict[str, Callable[[], Iterator[Made]]] = {
    function.__name__: function
    for function in (
        kinds.pretenders, kinds.telephones, kinds.sizes, kinds.depths, kinds.inks,
        kinds.extensions, kinds.names,
        damaged.truncated, damaged.flipped, damaged.flipped_formats, damaged.noise,
        damaged.leftovers, bombs.announced, bombs.frames, bombs.text, bombs.tags,
    )
}  # fmt: skip
NOT_UTF_8 = (b"caf\xe9.jpg", b"\xff\xfe.jpg", b"half\xf0\x9f.jpg")


def write(folder: Path) -> dict[bytes, Made]:
    """Write the corpus below `folder`, a folder a group; returns the files by their paths."""
    files: dict[bytes, Made] = {}
    for group, make in GROUPS.items():
        (folder / group).mkdir(parents=True)
        for one in make():
            path = bytes(folder / group) + b"/" + one.name
            if path in files:
                raise ValueError(f"{path!r} is made twice")
            with open(path, "wb") as file:
                file.write(one.data)
            files[path] = one
    return files


def not_utf_8() -> Iterator[Made]:
    """Names that no table can hold as they are; not every file system takes them."""
    for name in NOT_UTF_8:
        yield made(name, damaged.WHOLE["png"], None)
