"""Replacements for `decode_resized` in decoder processes; the data selects the fault."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import pool3
from pool3.errors import PictureError
from pool3.images.decode import Picture, decode_resized


def faulty(data: bytes, **arguments: Any) -> Picture:
    order, _, value = data.partition(b":")
    if order == b"signal":
        os.kill(os.getpid(), int(value))
        signal.pause()
    if order == b"exit":
        os._exit(int(value))
    if order == b"spin":
        sum(range(10**12))  # in C, with the interpreter's lock
    if order == b"sleep":
        time.sleep(float(value))
        raise PictureError("corrupt", value.decode())
    if order == b"memory":
        kept = bytearray(int(value))
        raise PictureError("corrupt", f"{len(kept)} bytes were to be had")
    if order == b"raise":
        raise RuntimeError("not an error of the picture")
    if order == b"garbage":
        os.write(int(sys.argv[1]), b"?" * 4096)
    if order == b"where":
        loaded = sorted({name.partition(".")[0] for name in sys.modules})
        raise PictureError("corrupt", f"{pool3.__file__} {' '.join(loaded)}")
    if order == b"pixels":
        arguments["admit"](int(value))
        started = time.monotonic()
        time.sleep(0.05)
        raise PictureError("corrupt", f"{value.decode()} {started} {time.monotonic()}")
    return decode_resized(data, **arguments)
