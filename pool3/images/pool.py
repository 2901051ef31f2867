"""Decodes pictures in separate processes, so that no picture can crash its worker.

Pictures are of unknown origin, and the libraries that read them are written in C. A picture that
crashes its decoder, blocks it or exhausts its memory costs only its own row: the process is
replaced, and the next picture is decoded.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import TypeVar

from pool3.errors import PictureError, Pool3Error, UsageError
from pool3.images.decode import RESIZES, DecodeLimits, Picture
from pool3.images.pixel_budget import PixelBudget
from pool3.images.profiles import SRGB, require_colour
from pool3.images.thumbnails import check_side
from pool3.images.worker import Decoder, DecoderSettings

log = logging.getLogger(__name__)

K = TypeVar("K")

MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024
IN_FLIGHT_PIXELS = 100_000_000
_CLOSED = "the pool of decoders is closed; create another"
_MAX_WAITING_BYTES = 64 * 1024 * 1024


class DecodePool:
    """Processes that decode pictures ahead of a consumer; a context manager.

    The constructor starts the processes without waiting for them, so that an engine can be loaded
    in the meantime. They do not import the main module, and a daemonic process may start them.

    Parameters
    ----------
    processes
        How many pictures are decoded at the same time.
    size, resize, limits, colour
        As in `pool3.images.decode.decode_resized`.
    timeout_s
        Time limit of a picture in seconds; after that its process is killed and its error is
        ``timeout``. Waiting for `in_flight_pixels` does not count.
    memory_limit_bytes
        Memory that each process may allocate. A picture that would need more, estimated as for
        `in_flight_pixels`, is not decoded. The error of such a picture, and of one that does need
        more, is ``too_many_pixels``.
    in_flight_pixels
        Width times height, summed over the pictures that are being decoded. According to their
        memory (see `decode`), JPEG 2000 counts three times, and other formats than plain JPEG
        twice. So all processes together use at most nine bytes per pixel. A picture that has more
        pixels is decoded alone.
    thumbnail_side
        Largest side of the thumbnails in pixels, 1 to 2048; None for no thumbnails.
    function
        ``module:name`` of the decode function, for tests.

    Attributes
    ----------
    seconds
        Time spent decoding so far, summed over the processes.

    Examples
    --------
    >>> with DecodePool(processes=2, size=299, resize="pil-bilinear") as pool:
    ...     [(key, outcome.code) for key, outcome in pool.decode([("a", b""), ("b", b"?")])]
    [('a', 'empty'), ('b', 'not_an_image')]
    """

    def __init__(
        self,
        *,
        processes: int,
        size: int,
        resize: str,
        limits: DecodeLimits | None = None,
        timeout_s: float = 30.0,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        in_flight_pixels: int = IN_FLIGHT_PIXELS,
        thumbnail_side: int | None = None,
        colour: str = SRGB,
        function: str = "pool3.images.decode:decode_resized",
    ) -> None:
        if resize not in RESIZES:
            raise UsageError(f"expected a resize of {', '.join(RESIZES)}, found {resize!r}")
        require_colour(colour)
        if min(processes, size) < 1 or timeout_s <= 0:
            raise UsageError(
                "expected 1 process or more, pictures of 1 pixel or more and a time limit above "
                f"0 s, found {processes}, {size} and {timeout_s}"
            )
        if thumbnail_side is not None:
            check_side(thumbnail_side)
        self.seconds = 0.0
        self._settings = DecoderSettings(
            size=size,
            resize=resize,
            limits=limits or DecodeLimits(),
            timeout_s=timeout_s,
            memory_limit_bytes=memory_limit_bytes,
            thumbnail_side=thumbnail_side,
            colour=colour,
            function=function,
        )
        self._budget = PixelBudget(in_flight_pixels)
        self._ahead = max(8, 4 * processes)
        self._lock = threading.Lock()
        self._closed = False
        self._decoders: list[Decoder] = []
        self._idle: SimpleQueue[Decoder] = SimpleQueue()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="pool3-decoder")
        try:
            for _ in range(processes):
                self._decoders.append(Decoder(self._settings))
                self._idle.put(self._decoders[-1])
        except BaseException:
            self.close()
            raise

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the processes including their start, as far as they reported them."""
        return sum(decoder.cpu_s for decoder in self._decoders)

    @property
    def pids(self) -> list[int]:
        """The ids of the current processes; a process that ended is replaced by another."""
        return [decoder.pid for decoder in self._decoders]

    def decode(
        self, items: Iterable[tuple[K, bytes]]
    ) -> Iterator[tuple[K, Picture | PictureError]]:
        """Yield the picture or the error of each item, in the order of the items.

        Parameters
        ----------
        items
            Pairs of a key and the bytes of a file. They are read in the calling thread, at most
            four per process (but at least eight) ahead of the consumer, and no more once 64 MiB
            wait.

        Raises
        ------
        Pool3Error
            If a decoder process cannot be started, or the pool is closed.
        """
        waiting: deque[tuple[K, int, Future[Picture | PictureError]]] = deque()
        waiting_bytes = 0
        iterator = iter(items)
        more = True
        try:
            while True:
                while more and len(waiting) < self._ahead and waiting_bytes < _MAX_WAITING_BYTES:
                    item = next(iterator, None)
                    if item is None:
                        more = False
                        break
                    key, data = item
                    waiting.append((key, len(data), self._submit(data)))
                    waiting_bytes += len(data)
                    del item, data
                if not waiting:
                    return
                key, length, future = waiting.popleft()
                outcome = future.result()
                waiting_bytes -= length
                yield key, outcome
        finally:
            for _, _, future in waiting:
                future.cancel()

    def _submit(self, data: bytes) -> Future[Picture | PictureError]:
        if self._closed:
            raise Pool3Error(_CLOSED)
        return self._threads.submit(self._decode, [data].pop)

    def _decode(self, take: Callable[[], bytes]) -> Picture | PictureError:
        decoder = self._idle.get()
        try:
            before = decoder.seconds
            outcome = decoder.decode(take, self._budget)
            with self._lock:
                self.seconds += decoder.seconds - before
                if self._closed:
                    raise Pool3Error(_CLOSED)
                if not decoder.alive:
                    log.warning("replacing a decoder process: %s", outcome)
                    decoder.restart()
            return outcome
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """Kill all processes, even while they decode; safe to repeat."""
        with self._lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        for decoder in self._decoders:
            decoder.kill()
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
