"""The driver side of extract-features."""
