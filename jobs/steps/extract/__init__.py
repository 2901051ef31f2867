"""The steps of extract-features on the driver."""
