"""Training stages, losses and data."""
