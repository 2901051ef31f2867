"""The feature table: its columns, the pipeline that fills it, and its versions."""
