"""pool3 finds the pictures that look like this one, in a data lake of millions."""

__version__ = "0.1.0"
