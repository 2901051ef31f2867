"""The filter language: text to a tree, a tree to an Arrow expression."""
