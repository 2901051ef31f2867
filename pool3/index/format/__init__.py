"""The files of an index as they are stored: manifest, tensors, arrays."""
