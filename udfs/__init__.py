"""What runs on executors: one factory per file."""
