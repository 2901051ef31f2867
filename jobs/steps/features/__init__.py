"""The driver side of compact-features."""
