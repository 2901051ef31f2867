"""Which ids are to be erased, as a person names them."""

from __future__ import annotations

import json

from pool3 import storage
from pool3.errors import StorageError, UsageError


def ids_named(text: str, option: str = "--erase") -> frozenset[str]:
    """Return the ids that an option names.

    Parameters
    ----------
    text
        Ids with commas between them; or ``@FILE``, a UTF-8 text with one id on each line, or a
        JSON list of strings where its name ends with ``.json``. The mark is needed, since an id is
        mostly the path of a file itself.
    option
        What an error names.

    Raises
    ------
    UsageError
        No id is named, or the file cannot be read as ids.

    Examples
    --------
    >>> sorted(ids_named("s3://lake/a.jpg,s3://lake/b.jpg"))
    ['s3://lake/a.jpg', 's3://lake/b.jpg']
    """
    ids = _ids_in_file(text[1:]) if text.startswith("@") else text.split(",")
    named = frozenset(image_id for image_id in ids if image_id)
    if not named:
        raise UsageError(f"expected ids in {option}, found none in {text!r}; name at least one")
    return named


def _ids_in_file(where: str) -> list[str]:
    uri = storage.canonical_uri(where)
    try:
        text = storage.fetch(uri).decode("utf-8-sig")
        ids = json.loads(text) if uri.endswith(".json") else _lines(text)
    except (StorageError, ValueError) as error:
        raise UsageError(
            f"expected ids to erase in {uri}, which cannot be read ({error}); give one id on each "
            "line, in UTF-8"
        ) from error
    if not isinstance(ids, list) or not all(isinstance(image_id, str) for image_id in ids):
        raise UsageError(f"expected a JSON list of strings in {uri}; write the ids as strings")
    return ids


def _lines(text: str) -> list[str]:
    # Not splitlines: that splits at characters which names of files may hold.
    return [line.removesuffix("\r") for line in text.split("\n")]
