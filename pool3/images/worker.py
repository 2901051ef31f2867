"""One decoder process, seen from the process that started it.

It is started as a plain command and not by multiprocessing: a daemonic process may start it, and
the main module of its parent is not imported again.
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
from pool3.images.thumbnails import MOST_SIDE
from pool3.images.worker_main import HEADER, SMALL

log = logging.getLogger(__name__)

_START = (
    "import sys; sys.path[:] = sys.argv[4:]; from pool3.images.worker_main import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])"
)
_START_TIMEOUT_S = 120.0
_EXIT_TIMEOUT_S = 5.0
_MAX_ANSWER = 65_536
_MAX_THUMBNAIL = 4 * MOST_SIDE**2


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """What a decoder process is told when it starts; see `pool3.images.pool.DecodePool`."""

    size: int
    resize: str
    limits: DecodeLimits
    timeout_s: float
    memory_limit_bytes: int
    thumbnail_side: int | None
    function: str


class DecoderNotStarted(Pool3Error):
    """A decoder process ended before it could take a picture."""


class Decoder:
    """A decoder process; one thread at a time may use it.

    Parameters
    ----------
    settings
        What the process is told.

    Attributes
    ----------
    seconds, cpu_s
        What decoding took, and the CPU time of the processes, those replaced included, as far as
        they lived to tell.
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
        """CPU time of this decoder so far, the start of its processes included."""
        return self._cpu_before_s + self._cpu_s

    def restart(self) -> None:
        """Start another process in the place of the one that ended, without waiting for it."""
        self._socket.close()
        self._cpu_before_s, self._cpu_s = self.cpu_s, 0.0
        self._start()

    def _start(self) -> None:
        self.alive, self._ready = True, False
        self._socket, theirs = socket.socketpair()
        settings = json.dumps(dataclasses.asdict(self._settings))
        arguments = [str(theirs.fileno()), str(self._memory_fd), settings, *_search_path()]
        with theirs:
            self._process = subprocess.Popen(
                # The search path is complete already; -S saves a tenth of the start.
                [sys.executable, "-S", "-W", "ignore", "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._memory_fd),
                # NumPy would start a thread for each CPU, with memory that counts.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )

    @property
    def pid(self) -> int:
        """Of the process that decodes now."""
        return self._process.pid

    def decode(self, take: Callable[[], bytes], budget: PixelBudget) -> Picture | PictureError:
        """Decode one picture; afterwards `alive` tells whether the process survived it.

        Parameters
        ----------
        take
            Hands over the bytes of the file, once; they are let go as soon as the process has them.
        budget
            What the pictures being decoded share.

        Raises
        ------
        DecoderNotStarted
            When the process ended before it was ready.
        """
        self._await_ready()
        share = SMALL
        budget.acquire(share)
        started = time.monotonic()
        try:
            deadline = started + self._settings.timeout_s
            self._send(b"J", take(), deadline)
            kind, payload = self._receive(deadline)
            if kind == b"A":
                waiting = time.monotonic()
                budget.release(share)
                share = 0
                wanted = int(payload)
                budget.acquire(wanted)
                share = wanted
                waited = time.monotonic() - waiting
                started, deadline = started + waited, deadline + waited
                self._send(b"G", b"", deadline)
                kind, payload = self._receive(deadline)
            return self._outcome(kind, json.loads(payload), deadline)
        except TimeoutError:
            self.kill()
            limit = f"{self._settings.timeout_s:g} s"
            return self._lost("timeout", f"it was not decoded within {limit}", started)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            return self._lost("decoder_crashed", self._reason(error), started)
        finally:
            budget.release(share)

    def _lost(self, code: str, detail: str, started: float) -> PictureError:
        """Return the error of a picture that its process can tell nothing more of."""
        seconds = time.monotonic() - started
        self.seconds += seconds
        return PictureError(code, detail, seconds)

    def _outcome(
        self, kind: bytes, facts: dict[str, Any], deadline: float
    ) -> Picture | PictureError:
        self.seconds += facts["seconds"]
        self._cpu_s = facts["cpu_s"]
        if kind == b"E":
            return PictureError(facts["code"], facts["detail"], facts["seconds"])
        size = self._settings.size
        rgb = np.frombuffer(self._memory, np.uint8).reshape(size, size, 3).copy()
        small = self._receive(deadline, _MAX_THUMBNAIL)[1] if facts["thumbnail"] else None
        return Picture(
            rgb, facts["width"], facts["height"], facts["format"], small, facts["seconds"]
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
            reason = self._reason(EOFError())
            raise DecoderNotStarted(
                f"expected a decoder process to start, but {sys.executable} {reason}; "
                "what it wrote to stderr, in the log of this process, says why"
            )

    def _reason(self, error: Exception) -> str:
        """Put an end to the process and say how it ended."""
        if not isinstance(error, OSError | EOFError):
            self.kill()
            return f"the decoder answered what cannot be read ({error})"
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
        self._until(deadline)
        self._socket.sendall(HEADER.pack(kind, len(data)))
        self._until(deadline)
        self._socket.sendall(data)

    def _receive(self, deadline: float, most: int = _MAX_ANSWER) -> tuple[bytes, bytes]:
        kind, length = HEADER.unpack(self._exactly(HEADER.size, deadline))
        if length > most:
            raise ValueError(f"an answer of {length} bytes")
        return kind, self._exactly(length, deadline)

    def _exactly(self, length: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < length:
            self._until(deadline)
            more = self._socket.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def _until(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._socket.settimeout(remaining)

    def kill(self) -> None:
        """End the process and wait for its end; safe to repeat."""
        self.alive = False
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process and give its memory back."""
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
    """Return a descriptor of memory without a name: it goes with the last process that has it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pool3-pixels")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _search_path() -> list[str]:
    """Where this process finds its modules: the archives that Spark adds while it runs, too."""
    home = str(Path(__file__).parents[2])
    return list(dict.fromkeys([home, *filter(None, sys.path)]))
