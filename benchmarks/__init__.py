"""Measured comparisons: one command each, a table for people and JSON for machines."""
