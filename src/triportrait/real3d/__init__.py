"""Real3D-Portrait (Ye et al., ICLR 2024), whole."""
