"""A person of whom several pictures are known."""
