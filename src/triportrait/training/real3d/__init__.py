"""Training of Real3D-Portrait's networks."""
