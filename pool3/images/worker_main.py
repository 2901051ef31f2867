"""A process that decodes one picture after another for the process that started it.

Pictures come through a socket, pixels go back through shared memory, the rest through the socket.
It ends when the other end of the socket is closed, which the death of its parent does too; a
picture that it is busy with then cannot hold it much beyond the deadline. It imports Pillow, NumPy
and `pool3.images.decode`, no more: it has to start in a fraction of a second.

Each message is a letter, the length of what follows as 8 bytes, and that many bytes:

===== =========== ==========================================================================
J     to decoder  a picture's file
G     to decoder  its pixels may be decoded
R     to parent   ready
A     to parent   asks for as many pixels as the decimal number says, and waits for G
P, E  to parent   a JSON object: the facts of the picture in shared memory, or what is wrong
T     to parent   the thumbnail of the picture whose facts, just sent, said that there is one
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
SMALL = 1_000_000
"""Pictures of no more pixels are decoded unasked."""

PIXEL_BYTES = 9
"""Memory that decoding takes at most for a pixel that `pool3.images.decode` announces."""

_GRACE_S = 5.0
_MAX_DETAIL = 2000


def main(socket_fd: int, memory_fd: int, settings: str) -> None:
    """Decode what comes through a socket until it is closed.

    Parameters
    ----------
    socket_fd, memory_fd
        Inherited descriptors: a connected stream socket; shared memory of size * size * 3 bytes.
    settings
        JSON: the fields of `pool3.images.worker.DecoderSettings`.
    """
    config: dict[str, Any] = json.loads(settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _limit(resource.RLIMIT_DATA, config["memory_limit_bytes"])
    _limit(resource.RLIMIT_CORE, 0)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # as many decoders as there are CPUs do without
    _quieten_libraries()
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
            self._arm()
            self._waited_s, started = 0.0, time.perf_counter()
            kind, facts, small = self._decoded(data)
            facts["seconds"] = time.perf_counter() - started - self._waited_s
            facts["cpu_s"] = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, 0)
            del data
            self._send(kind, json.dumps(facts).encode())
            if small is not None:
                self._send(b"T", small)

    def _decoded(self, data: bytes) -> tuple[bytes, dict[str, Any], bytes | None]:
        try:
            picture = self._function(data, **self._arguments)
        except PictureError as error:
            return b"E", {"code": error.code, "detail": error.detail[:_MAX_DETAIL]}, None
        except MemoryError:
            detail = "its pixels do not fit into memory"
            return b"E", {"code": "too_many_pixels", "detail": detail}, None
        self._pixels[...] = picture.rgb
        facts = {"width": picture.width, "height": picture.height, "format": picture.format}
        return b"P", facts | {"thumbnail": picture.thumbnail is not None}, picture.thumbnail

    def _admit(self, pixels: int) -> None:
        needed = pixels * PIXEL_BYTES
        if needed > self._memory_limit_bytes:
            # Some libraries call it damage when memory is not to be had.
            detail = f"up to {needed} bytes of memory, the limit is {self._memory_limit_bytes}"
            raise PictureError("too_many_pixels", f"decoding it takes {detail}")
        if pixels <= SMALL:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        started = time.perf_counter()
        self._send(b"A", str(pixels).encode())
        if self._receive() is None:
            raise SystemExit
        self._waited_s += time.perf_counter() - started
        self._arm()

    def _arm(self) -> None:
        """Have the kernel end this process, whatever it is caught in, should the parent be gone."""
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


def _quieten_libraries() -> None:
    """Let only Python write to stderr: libtiff tells it of each damaged picture in many lines."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _limit(what: int, most: int) -> None:
    """Lower a limit of this process, where the system has such a limit."""
    hard = resource.getrlimit(what)[1]
    with suppress(ValueError, OSError):
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, hard))
