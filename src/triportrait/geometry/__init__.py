"""Rotations, cameras and the rasteriser: the geometry everything stands on."""
