"""Checks, reads, matches and writes TensorFlow graphs."""
