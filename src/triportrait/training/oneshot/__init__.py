"""Training of the oneshot avatar's networks."""
