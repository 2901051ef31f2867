"""The files of an index: what they hold, how they are built, and how they are read back.

Deliberately not here: Spark (the job distributes what these modules do to one batch or one shard)
and the search itself (`pool3.search.index`).
"""
