"""Decoding pictures, drawing contact sheets. Empty: decoder processes import this package."""
