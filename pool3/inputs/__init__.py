"""What a run of extraction is asked to read: folders of pictures, or tables that name or hold them.

Nothing here knows of Spark. The driver stages a listing (`pool3.inputs.listed`) or finds the files
of tables (`pool3.inputs.table_files`); tasks read them (`pool3.inputs.readers`) and turn them into
rows of work (`pool3.inputs.rows`).
"""

from pool3.inputs.options import InputOptions

__all__ = ["InputOptions"]
