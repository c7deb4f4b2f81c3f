"""Training of ERLNet's reconstruction: data, networks and stages of the learned manner, and the dual field."""
