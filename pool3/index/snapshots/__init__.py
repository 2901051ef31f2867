"""Snapshots of an index: opened, made, published, expired."""
