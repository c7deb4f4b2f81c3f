"""What goes over the wire: requests, answers and errors. Videos have the shape of OpenAI's videos API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from triportrait.errors import TriPortraitError
from triportrait.motion.voice_controls import EMOTION_STRENGTH, EYE_CONTACT, HIGHEST, NATURAL, EmotionName, ShownEmotion
from triportrait.types import FPS

#: What was uploaded or made is deleted after so many seconds.
KEPT_S = 24 * 3600.0
#: A colour to stand behind the person, or nothing.
_COLOUR, _SCENE = (rf"^(#[0-9a-fA-F]{{6}}|white|black|grey|gray|green|blue{more})$" for more in ("", "|transparent"))
#: An angle of the gaze in degrees; eyes turn as far as they can.
_Gaze = Annotated[float, Field(ge=-60.0, le=60.0)]
#: From this percentage on the time that is left can be told.
_TELLING = 5
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
    "E_TOO_OFTEN": 429,
    "E_INTERNAL": 500,
    "E_STARTING": 503,
    "E_NO_SPACE": 507,
}
#: What to do about an error whose own words do not say it.
_REMEDIES = {
    "E_OPTION": "The description of all requests is at /openapi.json.",
    "E_MEDIA_FORMAT": "Export the file again, as MP4, WAV, MP3, JPEG or PNG.",
    "E_TOO_LARGE": "Use a smaller one.",
    "E_EMPTY": "Choose another file.",
    "E_NO_FACE": "Use a photo of one person who looks towards the camera.",
    "E_IO": "Look whether the server's disk is full.",
    "E_INTERNAL": "Please report it.",
}
_USUAL_REMEDY = "Try it with another file."
#: When to ask again where nobody knows.
_RETRY_S = 10


class ApiError(TriPortraitError):
    """An answer that is no success.

    Args:
        code: for programs.
        message: one sentence; without ``remedy`` it ends in one, after a semicolon.
        field: of the request that is at fault.
        remedy: what to do about it, one sentence.
        retry_after_s: when to ask again, where that is known.
    """

    def __init__(
        self, code: str, message: str, field: str | None = None, remedy: str | None = None, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.field, self.remedy, self.retry_after_s = code, field, remedy, retry_after_s

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 422)

    @property
    def headers(self) -> dict[str, str] | None:
        """Of the answer: when to ask again, where asking again helps."""
        return {"Retry-After": f"{self.retry_after_s or _RETRY_S}"} if self.status in (429, 503) else None


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
    background: str | None = Field(default=None, pattern=_SCENE)
    #: webm, mov (ProRes 4444) and zip (PNG files) carry the person alone, with alpha.
    format: Literal["mp4", "webm", "mov", "zip"] = "mp4"

    @model_validator(mode="after")
    def _format_fits(self) -> VideoOptions:
        if (self.background == "transparent") != (self.format != "mp4"):
            raise ValueError("format: webm, mov and zip go with the background transparent, mp4 with any other")
        if self.full_frame and self.background is not None:
            raise ValueError("full_frame keeps the photo's own background; leave out one of them")
        return self


class StillRequest(BaseModel):
    """One picture in a pose of one's own: curves by their ARKit names 0..1, angles in degrees, gaze pitch and yaw in degrees."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    curves: dict[str, float] = Field(default_factory=dict, max_length=60)
    pitch: float = Field(default=0.0, ge=-35.0, le=35.0)
    yaw: float = Field(default=0.0, ge=-35.0, le=35.0)
    roll: float = Field(default=0.0, ge=-35.0, le=35.0)
    gaze: tuple[_Gaze, _Gaze] = (0.0, 0.0)
    emotion: ShownEmotion = "neutral"
    background: str | None = Field(default=None, pattern=_COLOUR)


class AvatarForm(BaseModel):
    """What comes with a photo."""

    name: str = Field(default="", max_length=200)
    consent: bool = False
    #: Which one, counted from the left, where a photo shows several.
    face: int | None = Field(default=None, ge=1, le=100)


class VideoForm(BaseModel):
    """What comes with a voice or a video; ``options`` is :class:`VideoOptions` as JSON."""

    avatar: str = Field(max_length=100)
    options: str = "{}"
    #: Whom to tell when it has ended; the operator says who may be told.
    webhook: str | None = Field(default=None, min_length=1, max_length=500)


class MotionForm(BaseModel):
    """What comes with a voice or a video whose motion is wanted."""

    format: Literal["npz", "csv", "json", "livelink"] = "npz"


class PrepareRequest(BaseModel):
    """A conversation with a portrait is likely to begin soon."""

    model_config = ConfigDict(extra="forbid")
    avatar: str = Field(pattern="^avt_[0-9a-f]{24}$")
    #: A frame has a whole number of samples.
    sample_rate: int = Field(default=24_000, ge=8_000, le=96_000, multiple_of=int(FPS))
    video: Literal["jpeg", "none"] = "jpeg"


class SessionRequest(PrepareRequest):
    """A conversation with a portrait that was uploaded."""

    #: Rows of motion as well, for an avatar that the client draws itself: 52 ARKit curves, rotation, translation, gaze; ``session.created``
    #: names the curves in their order.
    motion: bool = False


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
    made: dict[str, Any] | None = None

    def answer(self, position: int = 0, now: float | None = None) -> dict[str, Any]:
        """The video object of OpenAI's API, or a motion in the same shape; ``position`` counts the jobs before it."""
        made = self.made or {}
        return {
            "id": self.id,
            "object": "motion" if self.id.startswith("mot_") else "video",
            "model": "triportrait",
            "status": self.state,
            "progress": self.progress,
            "created_at": int(self.created),
            "completed_at": None if self.finished is None else int(self.finished),
            "expires_at": None if self.finished is None else int(self.finished + KEPT_S),
            "seconds": made.get("seconds"),
            "size": made.get("size"),
            "format": made.get("format"),
            "error": self.error,
            "avatar": self.avatar or None,
            "position": position if self.state == "queued" else 0,
            "seconds_left": self._seconds_left(time.time() if now is None else now),
        }

    def _seconds_left(self, now: float) -> int | None:
        """How long it takes still, as it went so far."""
        if self.state != "in_progress" or self.started is None or self.progress < _TELLING:
            return None
        return round((now - self.started) * (100 - self.progress) / self.progress)


class Fault(BaseModel):
    """What is said of an error; never a path or a class."""

    code: str
    message: str
    remedy: str
    field: str | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer that is no success; ``faces`` are those among which one is to be chosen."""

    error: Fault
    faces: list[dict[str, Any]] | None = None


def fault_of(error: TriPortraitError, field: str | None = None, hidden: Mapping[str, str] | None = None) -> dict[str, Any]:
    """An error as :class:`Fault` describes it.

    Args:
        error: whose sentence may end in the remedy, after a semicolon.
        field: at fault, where the error does not say it itself.
        hidden: what a sentence must not show -> what it shows instead.
    """
    text = str(error)
    for shown, instead in (hidden or {}).items():
        text = text.replace(f"'{shown}'", instead).replace(shown, instead)
    remedy = getattr(error, "remedy", None)
    if remedy is None:
        # Our sentences have the form "what is wrong; what to do", or are two sentences.
        text, _, remedy = text.partition("; ") if "; " in text else text.partition(". ")
    return Fault(
        code=error.code,
        message=_sentence(text),
        remedy=_sentence(remedy or _REMEDIES.get(error.code, _USUAL_REMEDY)),
        field=getattr(error, "field", None) or field,
    ).model_dump()


def error_body(error: TriPortraitError) -> dict[str, Any]:
    """What is said of an error: its code, what is wrong, and what to do about it."""
    body: dict[str, Any] = {"error": fault_of(error)}
    return body | {"faces": error.faces} if isinstance(error, ChooseFace) else body


def first_fault(errors: Any) -> ApiError:
    """The first of a validation's errors as one of ours."""
    first = errors[0] if errors else {"loc": ("body",), "msg": "is wrong"}
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    what = f"The value of {field}" if field else "The request"
    return ApiError("E_OPTION", f"{what} is wrong: {first['msg']}", field or None, _REMEDIES["E_OPTION"])


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
