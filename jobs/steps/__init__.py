"""The driver's side of the jobs: plain functions over a Spark session."""
