"""The steps on the driver that make the next snapshot of an index."""
