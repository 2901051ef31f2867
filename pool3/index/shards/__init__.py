"""Shards of an index: writing, reading, searching and copying them."""
