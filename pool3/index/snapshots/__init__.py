"""Snapshots of an index: opening, making, publishing and expiring them."""
