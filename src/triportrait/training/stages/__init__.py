"""What is trained: one module per stage, and the table that the command line reads."""
