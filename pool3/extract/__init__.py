"""Pictures in, rows of a feature table out: what one task of an extraction does."""
