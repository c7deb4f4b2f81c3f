"""Two fields, one ray integral: the head in head space, torso and neck in the photo's camera (after ERLNet's dual-branch field)."""
