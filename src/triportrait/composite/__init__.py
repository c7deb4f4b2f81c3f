"""Head, torso and background to finished frames; paste-back into the photo."""
