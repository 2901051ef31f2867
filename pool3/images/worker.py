"""A decoder process, from the side of its parent.

It is started as a command instead of by multiprocessing, so that a daemonic process may start it
and it does not import the main module of its parent.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pool3.errors import PictureError, Pool3Error
from pool3.images.decode import DecodeLimits, Picture
from pool3.images.pixel_budget import PixelBudget
from pool3.images.thumbnails import MAX_SIDE
from pool3.images.worker_main import ADMITTED_PIXELS, HEADER

log = logging.getLogger(__name__)

_START = (
    "import sys; sys.path[:] = sys.argv[4:]; from pool3.images.worker_main import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"
)
_START_TIMEOUT_S = 120.0
_EXIT_TIMEOUT_S = 5.0
_MAX_MESSAGE = 65_536
_MAX_THUMBNAIL = 4 * MAX_SIDE**2


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """Settings of a decoder process; see `pool3.images.pool.DecodePool`."""

    size: int
    resize: str
    limits: DecodeLimits
    timeout_s: float
    memory_limit_bytes: int
    thumbnail_side: int | None
    colour: str
    function: str


class DecoderNotStarted(Pool3Error):
    """A decoder process ended before it was ready for a picture."""


class Decoder:
    """A decoder process, for one thread at a time.

    Parameters
    ----------
    settings
        Sent to the process when it starts.

    Attributes
    ----------
    seconds
        Time spent decoding.
    alive
        False after the process was killed.
    """

    def __init__(self, settings: DecoderSettings) -> None:
        self.seconds = 0.0
        self._settings = settings
        self._cpu_before_s = self._cpu_s = 0.0
        length = settings.size * settings.size * 3
        self._memory_fd = _shared_memory(length)
        self._memory = mmap.mmap(self._memory_fd, length)
        self._start()

    @property
    def cpu_s(self) -> float:
        """CPU time of this decoder including replaced processes, as far as they reported it."""
        return self._cpu_before_s + self._cpu_s

    def restart(self) -> None:
        """Replace the process that ended by a new one, without waiting for it."""
        self._socket.close()
        self._cpu_before_s, self._cpu_s = self.cpu_s, 0.0
        self._start()

    def _start(self) -> None:
        self.alive, self._ready = True, False
        self._socket, child_socket = socket.socketpair()
        settings = json.dumps(dataclasses.asdict(self._settings))
        arguments = [str(child_socket.fileno()), str(self._memory_fd), settings, *_search_path()]
        with child_socket:
            self._process = subprocess.Popen(
                # The search path is already complete; -S saves a tenth of the start time.
                [sys.executable, "-S", "-W", "ignore", "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(child_socket.fileno(), self._memory_fd),
                # NumPy would start a thread per CPU, whose memory counts against the limit.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        """The id of the current process."""
        return self._process.pid

    def decode(self, take: Callable[[], bytes], budget: PixelBudget) -> Picture | PictureError:
        """Decode one picture; afterwards `alive` is whether the process survived it.

        Parameters
        ----------
        take
            Returns the bytes of the file; called once, so that they can be freed as soon as the
            process has received them.
        budget
            The budget that all pictures being decoded share.

        Raises
        ------
        DecoderNotStarted
            If the process ended before it was ready.
        """
        self._await_ready()
        acquired = ADMITTED_PIXELS
        budget.acquire(acquired)
        started = time.monotonic()
        try:
            deadline = started + self._settings.timeout_s
            self._send(b"J", take(), deadline)
            kind, payload = self._receive(deadline)
            if kind == b"A":
                wait_started = time.monotonic()
                budget.release(acquired)
                acquired = 0
                requested = int(payload)
                budget.acquire(requested)
                acquired = requested
                wait_s = time.monotonic() - wait_started
                started, deadline = started + wait_s, deadline + wait_s
                self._send(b"G", b"", deadline)
                kind, payload = self._receive(deadline)
            return self._outcome(kind, json.loads(payload), deadline)
        except TimeoutError:
            self.kill()
            limit = f"{self._settings.timeout_s:g} s"
            return self._failure("timeout", f"it was not decoded within {limit}", started)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            return self._failure("decoder_crashed", self._end(error), started)
        finally:
            budget.release(acquired)

    def _failure(self, code: str, detail: str, started: float) -> PictureError:
        """Return the error of a picture whose process did not report a result."""
        seconds = time.monotonic() - started
        self.seconds += seconds
        return PictureError(code, detail, seconds)

    def _outcome(
        self, kind: bytes, result: dict[str, Any], deadline: float
    ) -> Picture | PictureError:
        self.seconds += result["seconds"]
        self._cpu_s = result["cpu_s"]
        if kind == b"E":
            return PictureError(result["code"], result["detail"], result["seconds"])
        size = self._settings.size
        rgb = np.frombuffer(self._memory, np.uint8).reshape(size, size, 3).copy()
        thumbnail = self._receive(deadline, _MAX_THUMBNAIL)[1] if result["thumbnail"] else None
        return Picture(
            rgb,
            result["width"],
            result["height"],
            result["format"],
            thumbnail,
            result["seconds"],
            tuple(result["notes"]),
        )

    def _await_ready(self) -> None:
        if self._ready:
            return
        try:
            kind, _ = self._receive(time.monotonic() + _START_TIMEOUT_S)
            self._ready = kind == b"R"
        except TimeoutError:
            self.kill()
        except (OSError, EOFError):
            pass
        if not self._ready:
            reason = self._end(EOFError())
            raise DecoderNotStarted(
                f"expected a decoder process to start, but {sys.executable} {reason}; "
                "see what it wrote to stderr, in the log of this process"
            )

    def _end(self, error: Exception) -> str:
        """Kill the process and return how it ended."""
        if not isinstance(error, OSError | EOFError):
            self.kill()
            return f"the decoder sent an invalid message ({error})"
        try:
            status = self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        if status is None:
            return "closed its connection"
        if status < 0:
            return f"was ended by {signal_name(-status)}"
        return f"exited with status {status}"

    def _send(self, kind: bytes, data: bytes, deadline: float) -> None:
        self._set_timeout(deadline)
        self._socket.sendall(HEADER.pack(kind, len(data)))
        self._set_timeout(deadline)
        self._socket.sendall(data)

    def _receive(self, deadline: float, max_bytes: int = _MAX_MESSAGE) -> tuple[bytes, bytes]:
        kind, length = HEADER.unpack(self._receive_bytes(HEADER.size, deadline))
        if length > max_bytes:
            raise ValueError(f"a message of {length} bytes")
        return kind, self._receive_bytes(length, deadline)

    def _receive_bytes(self, length: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            self._set_timeout(deadline)
            chunk = self._socket.recv(length - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    def _set_timeout(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)

    def kill(self) -> None:
        """Kill the process and wait for its end; safe to repeat."""
        self.alive = False
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill the process and free its memory."""
        self.kill()
        self._socket.close()
        self._memory.close()
        os.close(self._memory_fd)


def signal_name(number: int) -> str:
    """Return ``SIGSEGV`` for 11, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shared_memory(size: int) -> int:
    """Return a descriptor of anonymous memory, freed with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pool3-pixels")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _search_path() -> list[str]:
    """Return the module search path of this process, with archives that Spark added to it."""
    home = str(Path(__file__).parents[2])
    return list(dict.fromkeys([home, *filter(None, sys.path)]))
