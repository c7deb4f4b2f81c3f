"""Training of what is rebuilt of ERLNet."""
