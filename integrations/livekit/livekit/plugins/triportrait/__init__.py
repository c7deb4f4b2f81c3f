"""A TriPortrait as the face of a LiveKit agent."""

from livekit.plugins.triportrait.avatar import AvatarSession, avatar_runner
from livekit.plugins.triportrait.generator import TriPortraitGenerator

__all__ = ["AvatarSession", "TriPortraitGenerator", "avatar_runner"]
__version__ = "0.1.0"
