"""A person's delta plane: the network that Talk3D edits its planes with, at compact size, learned from one video."""
