"""What every job does around its work: options, logs, progress, report, metrics."""
