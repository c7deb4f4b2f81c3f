"""Talk3D (Ko et al., 2024), whole."""
