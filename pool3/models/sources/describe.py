"""Describes unexpected files and networks in error messages."""

from __future__ import annotations

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer, whose file was not fetched: git lfs pull"),
    (b"\x80", "a pickle, which is never opened"),
    (b"<", "a page of HTML or XML"),
    (b"{", "JSON"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"\x08\x01\x12", "the graph of a SavedModel: name the folder that it lies in"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
)
_NETWORKS = {
    13: "VGG16",
    16: "VGG19",
    53: "ResNet50",
    104: "ResNet101",
    120: "DenseNet121",
    149: "Inception-v4",
    244: "Inception-ResNet-v2",
}
"""Networks by their number of convolutions."""


def describe_file(data: bytes) -> str:
    """Describe a file by its first bytes."""
    if not data:
        return "an empty file"
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return f"what looks like {name}"
    return f"something that begins with {data[:12]!r}"


def network_hint(convolutions: int) -> str:
    """Return a hint at the network with that number of convolutions; empty if there is none."""
    name = _NETWORKS.get(convolutions)
    return f"; this looks like {name}" if name else ""
