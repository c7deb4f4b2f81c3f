"""Catalogue and safe reading of weights; knows names and bytes, no model."""
