"""The work of one extraction task: pictures in, rows of the feature table out."""
