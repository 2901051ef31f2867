"""Decodes pictures and draws contact sheets. Empty: decoder processes import this package."""
