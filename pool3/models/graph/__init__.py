"""TensorFlow graphs: checked, read, matched and frozen."""
