"""How many pixels of closed eyes show the open ones, for photos turned to both sides: lists every photo.

    python benchmarks/blink.py [PHOTO ...] [--folder ../shared/data/portraits] [--count 40] [--seed 7] [--avatar lifted]

Both openings in the photo are painted in a colour that no eye has before the avatar looks at it, and so are the eyeballs: a frame with
closed lids may not change. Columns: pixels that change by more than 8 of 255 levels for each turn.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triportrait import drivers, pipeline
from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.lifted.lids import behind_sunglasses
from triportrait.avatar.oneshot.avatar import CompactState
from triportrait.errors import TriPortraitError
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM
from triportrait.model import AVATARS
from triportrait.types import Avatar, FullHead, MotionFrame, PreparedPortrait

EXAMPLES = Path(__file__).parents[1] / "examples"
TURNS_DEG = (-15, 0, 15)
#: A colour that no eye has, and how many levels of 255 a pixel may change.
PAINT, LEVELS = np.float32([255, 0, 255]), 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*", default=[EXAMPLES / "portrait.png", EXAMPLES / "portrait2.png"])
    parser.add_argument("--folder", type=Path, help="photos are drawn from here as well")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--avatar", choices=("lifted", "oneshot"), default="lifted")
    options = parser.parse_args()
    drawn = []
    if options.folder:
        files = sorted(path for path in options.folder.rglob("*") if path.suffix in (".jpg", ".png"))
        drawn = random.Random(options.seed).sample(files, min(options.count, len(files)))
    head = drivers.default_head()
    avatar, bad = AVATARS[options.avatar](head).avatar, 0
    print("turned by", *(f"{turn:+d}" for turn in TURNS_DEG), "degrees:")
    for path in [*options.photos, *drawn]:
        try:
            portrait = pipeline.prepare(path)
        except TriPortraitError as error:
            print(f"{path}: left out ({error})")
            continue
        if behind_sunglasses(portrait):
            print(f"{path}: left out (sunglasses: no lids are drawn over them)")
            continue
        counts = open_pixels(avatar, portrait, head)
        bad += max(counts) > 0
        print(f"{path}:", *counts, flush=True)
    print(f"{bad} photos show the open eye")


def open_pixels(avatar: Avatar, portrait: PreparedPortrait, head: FullHead) -> list[int]:
    """Pixels of the portrait's frame with closed lids, for each turn, that depend on what its open eyes look like."""
    state = avatar.prepare(portrait)
    other = with_other_eyes(state, avatar.prepare(replace(portrait, image=painted(portrait, portrait.image))))
    counts = []
    for turn_deg in TURNS_DEG:
        frame = closed(portrait, head, turn_deg)
        one, two = (avatar.render(each, frame).rgb for each in (state, other))
        counts.append(int((np.abs(one - two).max(-1) > LEVELS / 255).sum()))
    return counts


def with_other_eyes(state: Any, painted_state: Any) -> Any:
    """What was prepared from painted eyes, but with the photo's own mouth, light and tone: eyes tell of those, too."""
    if isinstance(state, CompactState):
        return replace(painted_state, lifted=with_other_eyes(state.lifted, painted_state.lifted), mouth=state.mouth)
    own = {name: getattr(state, name) for name in ("inside", "light", "tone")}
    pictures = painted_state.lids.pictures._replace(light=state.lids.pictures.light)
    own["lids"] = replace(painted_state.lids, pictures=pictures)
    return replace(painted_state, **own, eye_textures=np.full_like(state.eye_textures, 1) * PAINT)


def painted(portrait: PreparedPortrait, picture: np.ndarray) -> np.ndarray:
    """A picture [s, s, 3] like the portrait's photo, with both openings painted."""
    result = picture.astype(np.float32)
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        result += eye_opening(portrait, rim)[..., None] * (PAINT - result)
    return result.astype(picture.dtype)


def closed(portrait: PreparedPortrait, head: FullHead, turn_deg: float) -> MotionFrame:
    """The photo's own motion, turned on, with closed lids."""
    motion, names = portrait.motion, list(head.expression_names)
    expression = motion.expression.copy()
    for half in ("Left", "Right"):
        expression[names.index(f"eyeBlink{half}")] = 1.0
        expression[names.index(f"eyeWide{half}")] = 0.0
    turned = motion.rotation_rad + np.radians([0, turn_deg, 0]).astype(np.float32)
    return replace(motion, expression=expression, rotation_rad=turned.astype(np.float32), landmarks=None)


if __name__ == "__main__":
    main()
