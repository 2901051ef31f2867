"""Dates and times as whole nanoseconds since 1970, in which every type of Arrow is exact.

A time without a zone is UTC, in a column and in a string alike, and a date is its midnight.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from pool3.errors import UsageError
from pool3.filters.columns import Values

#: 64 bits of seconds do not fit 64 bits of nanoseconds.
NANOSECONDS = pa.decimal128(38, 0)

_PER_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_PER_DAY = 86_400 * 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,](?P<fraction>[0-9]{1,9}))?)?)"
    r" ?(?P<zone>Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?",
    re.IGNORECASE,
)


def nanoseconds(values: Values) -> Values:
    """Return a column of dates or timestamps as nanoseconds since 1970.

    Examples
    --------
    >>> nanoseconds(pa.chunked_array([pa.array([1], pa.timestamp("us"))])).to_pylist()
    [Decimal('1000')]
    """
    kind = values.type
    if pa.types.is_date32(kind):
        counts, factor = values.cast(pa.int32()), _PER_DAY
    else:
        counts = values.cast(pa.int64())
        factor = _PER_UNIT["ms" if pa.types.is_date64(kind) else kind.unit]
    # A product of decimals has as many digits as both and one more: 19 + 15 + 1 at most.
    digits = len(str(factor))
    product = pc.multiply(
        counts.cast(pa.decimal128(19, 0)), pa.scalar(Decimal(factor), pa.decimal128(digits, 0))
    )
    return product.cast(NANOSECONDS)


def parsed_time(text: str) -> int:
    """Return a date or time in ISO 8601 as nanoseconds since 1970.

    Parameters
    ----------
    text
        ``2026-01-31``, or with a time: ``2026-01-31T23:59``, ``2026-01-31 23:59:59.5+01:00``.

    Raises
    ------
    UsageError
        The text is something else.

    Examples
    --------
    >>> parsed_time("1970-01-01T00:00:00.000000001Z")
    1
    """
    match = _ISO.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        zone = (match["zone"] or "Z").upper()
        clock = re.sub(r"[.,].*", "", match["time"] or "00:00")
        time = datetime.fromisoformat(f"{match['date']}T{clock}{zone}")
    except ValueError:
        raise UsageError(
            f"where compares a date or time with {text!r}; write it in ISO 8601: '2026-01-31' or "
            "'2026-01-31T23:59:59.5+01:00'"
        ) from None
    microseconds = (time - _EPOCH) // timedelta(microseconds=1)
    return microseconds * 1000 + int((match["fraction"] or "").ljust(9, "0"))
