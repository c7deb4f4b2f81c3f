"""Portraits for other programs: a head for any 3D viewer, and a video that goes round it."""
