"""NumPy files that several threads open.

NumPy reads their headers with Python's own parser, which in Python 3.11 now and then fails in one
of several threads: ``SystemError: AST constructor recursion depth mismatch``.
"""

from __future__ import annotations

import threading

#: Held while a header is read.
PARSING = threading.Lock()
