"""One shard of an index: written, read, searched, copied."""
