"""The main function of a decoder process, which decodes pictures one by one for its parent.

It receives pictures from a socket and returns pixels in shared memory, everything else through the
socket. The process ends when the other end of the socket is closed, also by the death of its
parent; a timer ends it soon after the deadline of a picture that blocks it. It imports only Pillow,
NumPy and `pool3.images.decode`, because it must start in a fraction of a second.

Each message is a letter, the length of the payload as 8 bytes, and the payload:

===== =========== ==========================================================================
J     to decoder  a picture file
G     to decoder  grants the requested pixels
R     to parent   the decoder is ready
A     to parent   requests that many pixels (a decimal number) and waits for G
P, E  to parent   a JSON object: metadata of the picture in shared memory, or its error
T     to parent   the thumbnail, if the preceding metadata announced one
===== =========== ==========================================================================
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from PIL import AvifImagePlugin

from pool3.errors import PictureError
from pool3.images.decode import DecodeLimits

HEADER = struct.Struct("<cQ")
ADMITTED_PIXELS = 1_000_000
"""Pictures of at most so many pixels are decoded without a request."""

PIXEL_BYTES = 9
"""Most memory that decoding takes per pixel that `pool3.images.decode` passes to `admit`."""

_GRACE_S = 5.0
_MAX_DETAIL = 2000
_MAX_NOTES, _MAX_NOTE = 8, 400


def main(socket_fd: int, memory_fd: int, settings: str) -> None:
    """Decode the pictures from a socket until it is closed.

    Parameters
    ----------
    socket_fd, memory_fd
        Inherited descriptors: a connected stream socket; shared memory of size * size * 3 bytes.
    settings
        JSON: the fields of `pool3.images.worker.DecoderSettings`.
    """
    config: dict[str, Any] = json.loads(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    _limit(resource.RLIMIT_DATA, config["memory_limit_bytes"])
    _limit(resource.RLIMIT_CORE, 0)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # one decoder process per CPU needs no threads
    _silence_libraries()
    module, name = config["function"].split(":")
    decoder = _Decoder(socket_fd, memory_fd, getattr(import_module(module), name), config)
    with suppress(BrokenPipeError, ConnectionResetError):
        decoder.run()


class _Decoder:
    def __init__(
        self, socket_fd: int, memory_fd: int, function: Any, config: dict[str, Any]
    ) -> None:
        size = config["size"]
        self._arguments = {
            "size": size,
            "resize": config["resize"],
            "limits": DecodeLimits(**config["limits"]),
            "admit": self._admit,
            "thumbnail_side": config["thumbnail_side"],
            "colour": config["colour"],
        }
        self._function = function
        self._memory_limit_bytes = config["memory_limit_bytes"]
        self._timeout_s = config["timeout_s"] + _GRACE_S
        self._socket_fd = socket_fd
        self._incoming: BinaryIO = os.fdopen(socket_fd, "rb")
        memory = mmap.mmap(memory_fd, size * size * 3)
        self._pixels = np.frombuffer(memory, np.uint8).reshape(size, size, 3)
        self._waited_s = 0.0

    def run(self) -> None:
        self._send(b"R")
        while (data := self._receive()) is not None:
            self._start_timer()
            self._waited_s, started = 0.0, time.perf_counter()
            kind, result, thumbnail = self._decode(data)
            result["seconds"] = time.perf_counter() - started - self._waited_s
            result["cpu_s"] = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, 0)
            del data
            self._send(kind, json.dumps(result).encode())
            if thumbnail is not None:
                self._send(b"T", thumbnail)

    def _decode(self, data: bytes) -> tuple[bytes, dict[str, Any], bytes | None]:
        try:
            picture = self._function(data, **self._arguments)
        except PictureError as error:
            return b"E", {"code": error.code, "detail": error.detail[:_MAX_DETAIL]}, None
        except MemoryError:
            detail = "its pixels do not fit into memory"
            return b"E", {"code": "too_many_pixels", "detail": detail}, None
        self._pixels[...] = picture.rgb
        metadata = {
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "thumbnail": picture.thumbnail is not None,
            "notes": [note[:_MAX_NOTE] for note in picture.notes[:_MAX_NOTES]],
        }
        return b"P", metadata, picture.thumbnail

    def _admit(self, pixels: int) -> None:
        needed = pixels * PIXEL_BYTES
        if needed > self._memory_limit_bytes:
            # Some libraries report a damaged picture when an allocation fails.
            detail = f"up to {needed} bytes of memory, the limit is {self._memory_limit_bytes}"
            raise PictureError("too_many_pixels", f"decoding it takes {detail}")
        if pixels <= ADMITTED_PIXELS:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        started = time.perf_counter()
        self._send(b"A", str(pixels).encode())
        if self._receive() is None:
            raise SystemExit
        self._waited_s += time.perf_counter() - started
        self._start_timer()

    def _start_timer(self) -> None:
        """Let the kernel end this process if a picture blocks it and its parent is dead."""
        signal.setitimer(signal.ITIMER_REAL, self._timeout_s)

    def _receive(self) -> bytes | None:
        header = self._incoming.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        _, length = HEADER.unpack(header)
        data = self._incoming.read(length)
        return data if len(data) == length else None

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        message = memoryview(HEADER.pack(kind, len(payload)) + payload)
        while message:
            message = message[os.write(self._socket_fd, message) :]


def _silence_libraries() -> None:
    """Let only Python write to stderr; libtiff writes many lines for each damaged picture."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    os.close(devnull)


def _limit(resource_id: int, maximum: int) -> None:
    """Lower a resource limit of this process, if the system supports it."""
    hard = resource.getrlimit(resource_id)[1]
    with suppress(ValueError, OSError):
        value = maximum if hard == resource.RLIM_INFINITY else min(maximum, hard)
        resource.setrlimit(resource_id, (value, hard))
