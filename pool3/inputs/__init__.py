"""The inputs of an extraction: folders of pictures, or tables with their uris or bytes.

Independent of Spark. The driver stages a listing (`pool3.inputs.listed`) or finds the files of
tables (`pool3.inputs.table_files`). Tasks read them (`pool3.inputs.readers`) and turn them into
input rows (`pool3.inputs.rows`).
"""

from pool3.inputs.options import InputOptions

__all__ = ["InputOptions"]
