"""Limits the pixels that the decoders of a process decode at the same time."""

from __future__ import annotations

import threading
from collections import deque


class PixelBudget:
    """A budget that decoders share, first come, first served.

    A request for more than the whole budget waits until nothing is acquired, and then has the
    budget alone. Later requests wait behind it, so that it cannot starve.

    Parameters
    ----------
    pixels
        Width times height, summed over the pictures that are being decoded.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._acquired = 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    def acquire(self, pixels: int) -> None:
        """Wait until `pixels` are available. A caller must release what it acquired before."""
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._fits(pixels))
            self._queue.popleft()
            self._acquired += pixels
            self._changed.notify_all()

    def release(self, pixels: int) -> None:
        """Return acquired pixels to the budget."""
        with self._changed:
            self._acquired -= pixels
            self._changed.notify_all()

    def _fits(self, pixels: int) -> bool:
        return self._acquired == 0 or self._acquired + pixels <= self._pixels
