"""Portraits for other programs: a head for any 3D viewer, and a video that goes round it."""

from pathlib import Path

#: The module that shows a head in a browser; exported pages hold it, and the server's page loads it.
VIEWER = Path(__file__).parent / "web" / "viewer.js"
