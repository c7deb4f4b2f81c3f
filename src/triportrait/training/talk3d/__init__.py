"""A person of Talk3D from one video: inversion into EG3D, tuning, and the networks that move the planes."""
