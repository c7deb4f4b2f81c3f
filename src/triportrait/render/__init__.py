"""Tri-plane and camera to features, colour, alpha and depth."""
