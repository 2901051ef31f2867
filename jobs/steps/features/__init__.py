"""The steps of compact-features on the driver."""
