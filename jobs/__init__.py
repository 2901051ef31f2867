"""The jobs: one `spark-submit` main per file."""
