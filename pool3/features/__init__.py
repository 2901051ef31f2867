"""The feature table: its columns, its files, and its versions."""
