"""What goes over the wire: requests, answers and errors. Videos have the shape of OpenAI's videos API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from triportrait.errors import TriPortraitError
from triportrait.motion.voice_controls import EMOTION_STRENGTH, EYE_CONTACT, HIGHEST, NATURAL, EmotionName

#: A colour to stand behind the person.
_COLOUR = r"^(#[0-9a-fA-F]{6}|white|black|grey|gray|green|blue)$"
#: Error codes -> HTTP status; everything else that lies with an input is 422.
STATUS = {
    "E_OPTION": 400,
    "E_NO_TOKEN": 401,
    "E_FOREIGN_PAGE": 403,
    "E_NOT_FOUND": 404,
    "E_NOT_READY": 409,
    "E_CHOOSE_FACE": 409,
    "E_TOO_LARGE": 413,
    "E_FULL": 429,
}


class ApiError(TriPortraitError):
    """An answer that is no success: a code, one sentence with the remedy, and which field is at fault."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.field = code, field

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 422)


class ChooseFace(ApiError):
    """A photo shows several people; ``faces`` has the number and the box of each, see :func:`triportrait.app.photo_child.prepare`."""

    def __init__(self, faces: list[dict[str, Any]]) -> None:
        super().__init__("E_CHOOSE_FACE", f"The photo shows {len(faces)} faces; choose one of them by its number (face).", "face")
        self.faces = faces


class VideoOptions(BaseModel):
    """How the portrait moves and what the video shows; names and ranges are those of ``triportrait animate``."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    emotion: EmotionName = "neutral"
    emotion_strength: float = Field(default=EMOTION_STRENGTH, ge=0.0, le=HIGHEST["emotion_strength"])
    head_motion: float = Field(default=NATURAL, ge=0.0, le=HIGHEST["head_motion"])
    mouth_gain: float = Field(default=NATURAL, ge=0.0, le=HIGHEST["mouth_gain"])
    expressiveness: float = Field(default=NATURAL, ge=0.0, le=HIGHEST["expressiveness"])
    eye_contact: float = Field(default=EYE_CONTACT, ge=0.0, le=HIGHEST["eye_contact"])
    mouth: Literal["auto", "free", "still"] = "auto"
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    quality: Literal["draft", "standard", "high"] = "standard"
    full_frame: bool = False
    background: str | None = Field(default=None, pattern=_COLOUR)


class StillRequest(BaseModel):
    """One picture in a pose of one's own: curves by their ARKit names 0..1, angles in degrees, gaze pitch and yaw in degrees."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    curves: dict[str, float] = Field(default_factory=dict, max_length=60)
    pitch: float = Field(default=0.0, ge=-35.0, le=35.0)
    yaw: float = Field(default=0.0, ge=-35.0, le=35.0)
    roll: float = Field(default=0.0, ge=-35.0, le=35.0)
    gaze: tuple[float, float] = (0.0, 0.0)
    emotion: EmotionName = "neutral"
    background: str | None = Field(default=None, pattern=_COLOUR)


class SessionRequest(BaseModel):
    """A conversation with a portrait that was uploaded."""

    model_config = ConfigDict(extra="forbid")
    avatar: str = Field(pattern="^avt_[0-9a-f]{24}$")
    sample_rate: int = Field(default=24_000, ge=8_000, le=96_000)


@dataclass(frozen=True, slots=True)
class Job:
    """A video that is made, or will be, or was; times in seconds since 1970."""

    id: str
    client: str
    avatar: str
    kind: str
    options: dict[str, Any]
    state: str
    attempts: int
    progress: int
    created: float
    started: float | None
    finished: float | None
    error: dict[str, Any] | None

    def video(self, position: int = 0) -> dict[str, Any]:
        """The video object of OpenAI's API; ``position`` counts the jobs before it."""
        spent = None if self.started is None else max((self.finished or 0.0) - self.started, 0.0)
        return {
            "id": self.id,
            "object": "video",
            "model": "triportrait",
            "status": self.state,
            "progress": self.progress,
            "created_at": int(self.created),
            "completed_at": None if self.finished is None else int(self.finished),
            "expires_at": None,
            "seconds": None if spent is None or self.finished is None else f"{spent:.1f}",
            "size": None,
            "error": self.error,
            "avatar": self.avatar,
            "position": position if self.state == "queued" else 0,
        }


def error_body(error: TriPortraitError) -> dict[str, Any]:
    """What is said of an error: its code and one sentence that holds the remedy; never a path or a class."""
    body = {"error": {"code": error.code, "message": str(error), "field": getattr(error, "field", None)}}
    return body | {"faces": error.faces} if isinstance(error, ChooseFace) else body
