"""Arithmetic on feature vectors. Imports nothing, since executors import this package."""
