"""Files to arrays and back: the only place that opens images, audio and video."""
