"""One person's motion on another's portrait: relative expression and pose, exchange of the pose, and the user's
controls.

Rotations are composed as matrices. Changes of pose are taken in the head's own frame: a nod stays a nod on a portrait
that looks aside.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np

from triportrait.geometry.body import borne
from triportrait.geometry.curve_range import lowest_curves
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler
from triportrait.geometry.warp import above_the_mouth, beside_the_face, warp_since
from triportrait.motion.controls import Controls
from triportrait.motion.emotion import yielding
from triportrait.motion.filters import gaussian, running_maximum, running_median
from triportrait.motion.lips import PARTING_CURVES, close_lips, gap_weights, lip_opening
from triportrait.motion.natural import idle_motion
from triportrait.motion.timing import to_and_fro
from triportrait.types import Array, Motion, MotionFrame

log = logging.getLogger(__name__)

#: Natural motion turns a head no farther from the camera than this, unless the photo does.
FARTHEST_YAW_RAD = np.radians(24.0)

#: Farthest from its place in the photo that a head is drawn well (seen on rendered grids: the neck slants, stretches and then tears):
#: decimetres sideways, up, down and along the view, radians about each axis. Up to ``_FREE`` of it motion is left alone.
_REACH_ASIDE_DM, _REACH_UP_DM, _REACH_DOWN_DM, _REACH_DEPTH_DM = 0.6, 0.38, 0.55, 1.9
_REACH_TURN_RAD = np.radians((27.0, 36.0, 36.0))
_FREE = 0.7
#: No head turns its face farther from the camera than this, the photo's own turn included.
_REACH_YAW_RAD = np.radians(48.0)
#: Time constant (standard deviation) with which somebody who walks far beyond the reach moves within it.
_UNHURRIED_S = 0.3
#: Limits that take less than this away go without saying.
_TAKEN_DM, _TAKEN_RAD = 0.1, np.radians(3.0)

#: Below this gap (face heights) lips count as touching; at three times as much they are free.
_TOUCHING = 0.004


def neutral_row(motion: Motion) -> int:
    """The row that looks most at rest: little expression, mouth shut, eyes open, head near its median pose, little movement."""
    expression = motion.expression.astype(np.float64)
    effort = np.abs(expression).sum(axis=1)
    if "jawOpen" in motion.expression_names:
        effort = effort + 20.0 * lip_opening(expression, motion.expression_names)
    turn = np.abs(motion.rotation_rad - np.median(motion.rotation_rad, axis=0)).sum(axis=1)
    glance = np.abs(motion.gaze_rad - np.median(motion.gaze_rad, axis=0)).sum(axis=1)
    speed = np.zeros(len(motion))
    if len(motion) > 1:
        speed[1:] = np.abs(np.diff(expression, axis=0)).sum(axis=1)
        speed[:-1] = np.maximum(speed[:-1], speed[1:])
    return int(np.argmin(effort + 4.0 * turn + 2.0 * glance + speed))


def relative(
    motion: Motion,
    reference_row: Literal["first", "neutral"] | int,
    portrait_motion: MotionFrame,
    lip_contact: bool = True,
) -> Motion:
    """Apply a clip's changes since its reference row to the portrait's own expression, pose and gaze.

    Args:
        motion: the clip's.
        reference_row: ``"first"``, ``"neutral"`` (see :func:`neutral_row`) or a row number.
        portrait_motion: what the photo shows; same curves as ``motion``.
        lip_contact: bring the portrait's lips together wherever the clip's touch, even if the photo's are parted.

    Returns:
        Motion in the portrait's pose frame. With ``lip_contact=False`` the reference row gives exactly the portrait's
        own.
    """
    row = {"first": 0}.get(reference_row) if isinstance(reference_row, str) else int(reference_row)
    if row is None:
        row = neutral_row(motion)
    expression = portrait_motion.expression + (motion.expression - motion.expression[row])
    if "jawOpen" in motion.expression_names:
        expression = np.clip(expression, lowest_curves(motion.expression_names), 1.0)
        if lip_contact:
            expression = _keep_contact(expression, motion)
    rotation, translation = pose_since(motion.rotation_rad, motion.translation, row, portrait_motion)
    return Motion(
        expression.astype(np.float32),
        rotation,
        translation,
        (portrait_motion.gaze_rad + motion.gaze_rad - motion.gaze_rad[row]).astype(np.float32),
        fps=motion.fps,
        expression_names=motion.expression_names,
        head_model=motion.head_model,
        body=None if motion.body is None else body_since(motion.body, row),
        warp=None if motion.warp is None else warp_since(motion.warp, row),
    )


def body_since(body: Array, row: int) -> Array:
    """A body's motion [t, 4] since its row ``row``, whose distance to the camera is then the measure."""
    since = body - body[row]
    since[:, :2] *= np.exp(-body[row, 2])
    return since.astype(np.float32)


def pose_since(rotation_rad: Array, translation: Array, row: int, portrait_motion: MotionFrame) -> tuple[Array, Array]:
    """A clip's pose [t, 3], [t, 3] moved so that its row ``row`` is the portrait's own; the change is taken in the head's own frame."""
    change = matrix_from_euler(rotation_rad[row]).T @ matrix_from_euler(rotation_rad)
    rotation = euler_from_matrix(matrix_from_euler(portrait_motion.rotation_rad) @ change)
    return rotation.astype(np.float32), (portrait_motion.translation + translation - translation[row]).astype(np.float32)


def from_rest(motion: Motion, portrait_motion: MotionFrame, emotions: Array | None = None) -> Motion:
    """Motion that starts at rest (from a voice, or idle) on a portrait: pose and gaze on top of the photo's, the
    mouth in its own right.

    Curves that part the lips are the motion's alone, because a photo with an open mouth has to close it for /p/; the
    others add up, so that a smile stays a smile, unless ``emotions`` [t, 4] take it away (see :mod:`.emotion`).
    """
    names = motion.expression_names
    base = np.array(portrait_motion.expression, np.float32)
    for name in (*PARTING_CURVES, "mouthClose"):
        if name in names:
            base[names.index(name)] = 0.0
    if emotions is not None:
        base = yielding(base, emotions)
    expression = np.clip(base + motion.expression, lowest_curves(names), 1.0)
    if "jawOpen" in names:
        expression = _keep_contact(expression, motion)
    rotation = matrix_from_euler(portrait_motion.rotation_rad) @ matrix_from_euler(motion.rotation_rad)
    return motion.with_rows(
        expression=expression.astype(np.float32),
        rotation_rad=euler_from_matrix(rotation).astype(np.float32),
        translation=(portrait_motion.translation + motion.translation).astype(np.float32),
        gaze_rad=(portrait_motion.gaze_rad + motion.gaze_rad).astype(np.float32),
    )


def keep_in_view(motion: Motion, portrait_motion: MotionFrame, eye_contact: float) -> Motion:
    """Natural motion for a photo of a turned head: it turns back as far as it likes and, softly bounded, only a little farther away.

    A photo does not show what a farther turn would uncover. The eyes counter what the head does.
    """
    own = float(portrait_motion.rotation_rad[1])
    room = max(FARTHEST_YAW_RAD - abs(own), np.radians(4.0))
    away = motion.rotation_rad[:, 1] * np.sign(own)
    if room >= np.radians(17.0) or not (away > 0).any():
        return motion
    kept = np.where(away > 0, room * np.tanh(away / room), away) * np.sign(own)
    rotation, gaze = np.array(motion.rotation_rad), np.array(motion.gaze_rad)
    gaze[:, 1] += eye_contact * (rotation[:, 1] - kept)
    rotation[:, 1] = kept
    return motion.with_rows(rotation_rad=rotation, gaze_rad=gaze)


def within_reach(motion: Motion, portrait_motion: MotionFrame) -> tuple[Motion, dict[str, int]]:
    """Hold a head back, softly, where it would leave its neck or turn to what the photo does not show.

    Args:
        motion: rows in the portrait's pose frame.
        portrait_motion: what the photo shows.

    Returns:
        The motion, whose rows within reach are untouched; and in how many rows which movement was clearly held back.
    """
    own = np.asarray(portrait_motion.translation, np.float64)
    shift = motion.translation - own
    # Who is beyond reach for most of the time is at rest there; for others the median is 0.
    typical = shift - np.median(shift - _held_by_neck(shift), axis=0)
    moved = _unhurried(typical, _held_by_neck(typical), motion.fps)

    home = matrix_from_euler(np.asarray(portrait_motion.rotation_rad, np.float64))
    turn = euler_from_matrix(home.T @ matrix_from_euler(motion.rotation_rad.astype(np.float64)))
    reach = np.tile(_REACH_TURN_RAD, (len(motion), 1))
    own_yaw = float(portrait_motion.rotation_rad[1])
    away = turn[:, 1] * own_yaw > 0
    reach[away, 1] = np.clip(_REACH_YAW_RAD - abs(own_yaw), np.radians(8.0), _REACH_TURN_RAD[1])
    turned = turn * _soft(np.abs(turn) / reach)

    taken, twisted = np.abs(shift - moved), np.abs(turn - turned)
    counts = {
        "sideways or up and down": int((np.hypot(taken[:, 0], taken[:, 1]) > _TAKEN_DM).sum()),
        "towards or away from the camera": int((taken[:, 2] > _TAKEN_DM).sum()),
        "turned": int((twisted.max(1) > _TAKEN_RAD).sum()),
    }
    rotation, translation = np.array(motion.rotation_rad), np.array(motion.translation)
    body = motion.body
    if body is not None:
        # Shoulders are held back with their head, and the neck between them bears what is left.
        body = body.copy()
        body[:, :2] -= (shift - moved)[:, :2]
        body = borne(body, moved).astype(np.float32)
    far, wide = (moved != shift).any(1), (turned != turn).any(1)
    translation[far] = (own + moved)[far]
    rotation[wide] = euler_from_matrix(home @ matrix_from_euler(turned[wide]))
    return motion.with_rows(rotation_rad=rotation, translation=translation, body=body), {
        what: count for what, count in counts.items() if count
    }


def held_within_reach(motion: Motion, own: MotionFrame) -> Motion:
    """Head motion of a clip, :func:`within_reach` of a portrait whose photo shows ``own``; a warning says when it was held back."""
    kept, limited = within_reach(motion, own)
    if limited:
        log.warning(
            "the clip's head moves farther than a portrait can show (%s); it was held back in %d of %d frames",
            " and ".join(limited),
            max(limited.values()),
            len(motion),
        )
    return kept


def _held_by_neck(shift: Array) -> Array:
    """Shifts [t, 3] in decimetres, softly held within the reach."""
    down_or_up = np.where(shift[:, 1] > 0, _REACH_UP_DM, _REACH_DOWN_DM)
    aside = _soft(np.hypot(shift[:, 0] / _REACH_ASIDE_DM, shift[:, 1] / down_or_up))
    depth = _soft(np.abs(shift[:, 2]) / _REACH_DEPTH_DM)
    return shift * np.stack([aside, aside, depth], axis=1)


def _unhurried(shift: Array, held: Array, fps: float) -> Array:
    """``held`` shifts [t, 3], smoothed around the rows in which much was held back.

    Who walks through the whole reach in a few frames would else be drawn at its one end and then at the other.
    """
    excess = np.abs(shift - held).max(1)
    if not excess.any():
        return held
    sigma = _UNHURRIED_S * fps
    near = gaussian(running_maximum(excess, 2 * round(2 * sigma) + 1), 0.5 * sigma)
    share = np.clip((near - _TAKEN_DM) / (_REACH_ASIDE_DM - _TAKEN_DM), 0.0, 1.0)[:, None]
    # A mean of places within reach is within reach.
    return held + share * (gaussian(held, sigma, "edge") - held)


def _soft(amount: Array) -> Array:
    """What to multiply by so that an amount (1 is the reach) stays below 1: exactly 1 up to ``_FREE``, then ever less, without a corner."""
    beyond = np.maximum(amount - _FREE, 0.0) / (1.0 - _FREE)
    kept = _FREE + (1.0 - _FREE) * np.tanh(beyond)
    return np.where(amount > _FREE, kept / np.maximum(amount, 1e-9), 1.0)


def _keep_contact(expression: Array, motion: Motion) -> Array:
    """Close the lips of ``expression`` [t, e] where those of ``motion`` touch and it would part them."""
    weights = gap_weights(motion.expression_names)
    gap = np.maximum(motion.expression @ weights, 0.0)
    touching = np.clip((3 * _TOUCHING - gap) / (2 * _TOUCHING), 0.0, 1.0)
    parted = np.clip((expression @ weights - gap) / 0.002, 0.0, 1.0)
    return close_lips(expression, motion.expression_names, touching * parted, jaw_share=0.0)


def with_clip_pose(motion: Motion, pose: Motion, start: int = 0, eye_contact: float = 0.0) -> Motion:
    """Rotation, translation, body and warp of another clip, which is on the portrait already, to and fro where it is shorter.

    The warp's places on the face are left out: the clip's face made them with another expression.

    Args:
        motion: rows whose expression stays.
        pose: the clip's head in the portrait's pose frame, at the rate of ``motion``.
        start: number of the first row of ``motion`` in the whole performance.
        eye_contact: share of the clip's turns that the eyes counter, 0..1.
    """
    index = to_and_fro(len(motion), len(pose), start)
    turn = pose.rotation_rad[index] - pose.rotation_rad[0]
    gaze = motion.gaze_rad + eye_contact * np.stack([turn[:, 0], -turn[:, 1]], axis=1)
    return motion.with_rows(
        rotation_rad=pose.rotation_rad[index],
        translation=pose.translation[index],
        gaze_rad=gaze.astype(np.float32),
        body=None if pose.body is None else pose.body[index],
        warp=None if pose.warp is None else beside_the_face(pose.warp)[index],
    )


def with_pose(
    motion: Motion,
    pose: Literal["still", "natural"],
    portrait_motion: MotionFrame,
    controls: Controls | None = None,
    seed: int = 0,
) -> Motion:
    """Replace rotation, translation, body and warp by made-up ones; :func:`with_clip_pose` takes those of a clip.

    Args:
        motion: rows whose expression stays.
        pose: ``"still"`` for the portrait's own pose, or ``"natural"`` for idle motion (gaze then keeps the contact that the
            new turns ask for).
        portrait_motion: what the photo shows.
        controls: for ``"natural"``.
        seed: for ``"natural"``.
    """
    frames = len(motion)
    if pose == "still":
        return motion.with_rows(
            rotation_rad=np.tile(np.asarray(portrait_motion.rotation_rad, np.float32), (frames, 1)),
            translation=np.tile(np.asarray(portrait_motion.translation, np.float32), (frames, 1)),
            body=None,
            warp=None,
            landmarks=None,
        )
    controls = controls or Controls()
    idle = idle_motion(frames, motion.fps, controls=controls, seed=seed)
    rotation = matrix_from_euler(portrait_motion.rotation_rad) @ matrix_from_euler(idle.rotation_rad)
    counter = controls.eye_contact * np.stack([idle.rotation_rad[:, 0], -idle.rotation_rad[:, 1]], axis=1)
    return motion.with_rows(
        rotation_rad=euler_from_matrix(rotation).astype(np.float32),
        translation=(portrait_motion.translation + idle.translation).astype(np.float32),
        gaze_rad=(motion.gaze_rad + counter).astype(np.float32),
        body=idle.body,
        warp=None,
        landmarks=None,
    )


def mouth_gain(motion: Motion, gain: float) -> Motion:
    """Scale jaw, mouth and tongue curves; lips that touch go on touching."""
    names = motion.expression_names
    moving = [i for i, name in enumerate(names) if name.startswith(("jaw", "mouth", "tongue"))]
    expression = np.array(motion.expression, np.float32)
    expression[:, moving] = np.clip(expression[:, moving] * gain, 0.0, 1.0)
    if "jawOpen" in names:
        expression = _keep_contact(expression, motion)
    return motion.with_rows(expression=expression)


def hold_mouth(motion: Motion, portrait_motion: MotionFrame) -> Motion:
    """Everything but the lower face moves: jaw, mouth, tongue, cheeks and nose stay as in the photo. For mouths that something covers."""
    held = [i for i, name in enumerate(motion.expression_names) if name.startswith(("jaw", "mouth", "tongue", "cheek", "nose"))]
    expression = np.array(motion.expression, np.float32)
    expression[:, held] = np.asarray(portrait_motion.expression, np.float32)[held]
    return motion.with_rows(expression=expression, warp=None if motion.warp is None else above_the_mouth(motion.warp))


def without_blinks(motion: Motion) -> Motion:
    """Lids at their resting height throughout: what exceeds the median of the surrounding two seconds by 0.15 is taken away."""
    expression = np.array(motion.expression, np.float32)
    size = max(3, int(2 * motion.fps) | 1)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        if name in motion.expression_names:
            column = motion.expression_names.index(name)
            rest = running_median(expression[:, column], size)
            expression[:, column] = np.minimum(expression[:, column], rest + 0.15)
    return motion.with_rows(expression=expression)


def with_blinks(motion: Motion, blinks_per_minute: float, seed: int = 0) -> Motion:
    """Natural blinks on top of the motion's own lids (the more closed of the two counts)."""
    controls = Controls(head_motion=0.0, blinks_per_minute=blinks_per_minute, gaze_motion=0.0)
    idle = idle_motion(len(motion), motion.fps, controls=controls, seed=seed)
    expression = np.array(motion.expression, np.float32)
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        if name in motion.expression_names:
            column = motion.expression_names.index(name)
            expression[:, column] = np.maximum(expression[:, column], idle.expression[:, idle.column(name)])
    return motion.with_rows(expression=expression)
