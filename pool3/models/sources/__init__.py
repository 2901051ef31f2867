"""The containers that weights of Inception-v3 come in."""
