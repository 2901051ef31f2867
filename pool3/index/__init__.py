"""The files of an index: their formats, writing and reading them.

Deliberately not here: Spark, whose jobs distribute what these modules do to one batch or one shard,
and searching (`pool3.search.index`).
"""
