"""Pixels to what we know of a face: tracking, fitting, masks, layers, PNCC."""
