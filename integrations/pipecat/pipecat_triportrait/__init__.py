"""A TriPortrait as the face of a Pipecat bot."""

from pipecat_triportrait.service import TriPortraitVideoService

__all__ = ["TriPortraitVideoService"]
__version__ = "0.1.0"
