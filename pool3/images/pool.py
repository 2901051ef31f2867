"""Decoding in processes of their own, so that no picture can take its worker down.

Pictures come from anywhere, and the libraries that read them are written in C. Here a picture that
crashes its decoder, hangs in it or fills its memory costs one row and nothing else: the process is
replaced, and the next picture goes on.
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
from pool3.images.thumbnails import check_side
from pool3.images.worker import Decoder, DecoderSettings

log = logging.getLogger(__name__)

K = TypeVar("K")

MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024
IN_FLIGHT_PIXELS = 100_000_000
_CLOSED = "the pool of decoders was closed; make another"
_AHEAD_BYTES = 64 * 1024 * 1024


class DecodePool:
    """Processes that decode pictures ahead of a consumer; a context manager.

    The processes are started at once and not waited for, so an engine can be loaded meanwhile.
    They need no main module to import again, and a daemonic process may have them.

    Parameters
    ----------
    processes
        How many pictures are decoded at one time.
    size, resize, limits
        As in `pool3.images.decode.decode_resized`.
    timeout_s
        Seconds that a picture may take; then its process is ended and the picture's error is
        ``timeout``. Waiting for `in_flight_pixels` does not count.
    memory_limit_bytes
        What each process may allocate. A picture that may need more, reckoned as for
        `in_flight_pixels`, is not begun; it and one that does need more have the error
        ``too_many_pixels``.
    in_flight_pixels
        Width times height, summed over the pictures being decoded; JPEG 2000 counts three times,
        all else but plain JPEG twice, for the memory it takes (see `decode`). So the
        processes together hold at most nine bytes for each. A picture that has more is decoded
        alone.
    thumbnail_side
        Most pixels along a side of the thumbnails, 1 to 2048; None makes none.
    function
        ``module:name`` of what decodes, for tests.

    Attributes
    ----------
    seconds
        What decoding took so far, summed over the processes.

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
        function: str = "pool3.images.decode:decode_resized",
    ) -> None:
        if resize not in RESIZES:
            raise UsageError(f"expected a resize of {', '.join(RESIZES)}, found {resize!r}")
        if min(processes, size) < 1 or timeout_s <= 0:
            raise UsageError(
                "a pool needs 1 process or more, pictures of 1 pixel or more and a deadline above "
                f"0 s, not {processes}, {size} and {timeout_s}"
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
        """CPU seconds of the processes, their start included, as far as they lived to tell."""
        return sum(decoder.cpu_s for decoder in self._decoders)

    @property
    def pids(self) -> list[int]:
        """The processes that decode now; another takes the place of one that ended."""
        return [decoder.pid for decoder in self._decoders]

    def decode(
        self, items: Iterable[tuple[K, bytes]]
    ) -> Iterator[tuple[K, Picture | PictureError]]:
        """Yield each item's picture, or what is wrong with it, in the order of the items.

        Parameters
        ----------
        items
            A key of any kind and the bytes of a file. They are taken in the calling thread, at
            most four for each process ahead of the consumer (eight where there are fewer), and no
            more once 64 MiB wait.

        Raises
        ------
        Pool3Error
            When a decoder process cannot be started.
        """
        waiting: deque[tuple[K, int, Future[Picture | PictureError]]] = deque()
        waiting_bytes = 0
        iterator = iter(items)
        more = True
        try:
            while True:
                while more and len(waiting) < self._ahead and waiting_bytes < _AHEAD_BYTES:
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
        return self._threads.submit(self._decoded, [data].pop)

    def _decoded(self, take: Callable[[], bytes]) -> Picture | PictureError:
        decoder = self._idle.get()
        try:
            before = decoder.seconds
            outcome = decoder.decode(take, self._budget)
            with self._lock:
                self.seconds += decoder.seconds - before
                if self._closed:
                    raise Pool3Error(_CLOSED)
                if not decoder.alive:
                    log.warning("a decoder is replaced: %s", outcome)
                    decoder.restart()
            return outcome
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End every process, whatever it is busy with; safe to repeat."""
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
