"""Arithmetic on feature vectors. Empty: executors import this package."""
