"""Recall of a snapshot: how it is measured, and which effort reaches which recall."""
