"""Recall of a snapshot: measuring it, and choosing the effort that reaches a recall."""
