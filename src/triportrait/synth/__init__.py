"""Synthetic training data with exact labels."""
