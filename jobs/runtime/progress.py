"""Progress of long stages on stderr: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

log = logging.getLogger(__name__)

_POLL_S = 0.5
_LINE_EVERY_S = 15.0

#: Returns ``(done, total)``.
Poll = Callable[[], tuple[int, int]]


@contextmanager
def watched(label: str, poll: Poll, *, unit: str) -> Iterator[None]:
    """Show how far a stage is, as `poll` tells, while the block runs.

    Parameters
    ----------
    label
        What is being done, such as ``extracting features``.
    poll
        Called from a thread, twice a second.
    unit
        What is counted, such as ``tasks``.
    """
    done = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=show, args=(label, poll, unit, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _bar(label: str, poll: Poll, unit: str, done: threading.Event) -> None:
    with tqdm(desc=label, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True) as bar:
        while True:
            last = done.wait(_POLL_S)
            finished, bar.total = poll()
            bar.update(finished - bar.n)
            if last:
                return


def _lines(label: str, poll: Poll, unit: str, done: threading.Event) -> None:
    started = time.monotonic()
    while not done.wait(_LINE_EVERY_S):
        log.info("%s: %d of %d %s, %.0f s", label, *poll(), unit, time.monotonic() - started)
    log.info("%s: done, %d of %d %s, %.1f s", label, *poll(), unit, time.monotonic() - started)
