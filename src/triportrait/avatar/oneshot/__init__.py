"""The learned default avatar: one picture becomes planes near the head's surface."""
