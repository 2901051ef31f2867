"""How many pixels are being decoded at one time, over all decoders of a process."""

from __future__ import annotations

import threading
from collections import deque


class PixelBudget:
    """A joint allowance that decoders draw from, first come, first served.

    A request over the whole allowance waits until nothing else is out, and then has it alone;
    whatever comes later waits behind it, so it is never starved.

    Parameters
    ----------
    pixels
        Width times height, summed over the pictures in flight.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._out = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    def acquire(self, pixels: int) -> None:
        """Wait for `pixels` of the allowance. A caller that holds some must give it back first."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._fits(pixels))
            self._queue.popleft()
            self._out += pixels
            self._changed.notify_all()

    def release(self, pixels: int) -> None:
        """Give back what `acquire` gave."""
        with self._changed:
            self._out -= pixels
            self._changed.notify_all()

    def _fits(self, pixels: int) -> bool:
        return self._out == 0 or self._out + pixels <= self._pixels
