"""The steps on the driver that search an index with many queries."""
