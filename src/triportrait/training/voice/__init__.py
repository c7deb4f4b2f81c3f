"""Training of the voice's networks."""
