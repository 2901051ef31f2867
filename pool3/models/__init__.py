"""Models: weights from any source, converted to one format, the model directory."""

from pool3.models.directory import ModelDirectory, copy_model, read_model
from pool3.models.load import load_model

__all__ = ["ModelDirectory", "copy_model", "load_model", "read_model"]
