"""The options of each job: its name, its configuration, its parser."""
