"""A portrait and its motion to something that can be rendered."""
