"""A driver to motion: speech, video, saved files; head pose, blinks, smoothing."""
