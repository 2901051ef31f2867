"""Where weights come from, and the one form that all of them become: a model directory."""

from pool3.models.directory import ModelDirectory, copy_model, read_model
from pool3.models.load import load_model

__all__ = ["ModelDirectory", "copy_model", "load_model", "read_model"]
