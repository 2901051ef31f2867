"""The filter language of ``where``: text to a tree, and a tree to a mask of rows."""
