"""What of the documentation is made from the code: the picture of the house, tables, options.

``make docs-generate`` writes it; a test fails where a committed page is not what the code says.
"""
