"""Marks that say a video is synthetic, and the detector for them."""
