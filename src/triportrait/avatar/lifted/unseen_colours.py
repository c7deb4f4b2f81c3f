"""What the mantle shows where the photo saw nothing: colours without features, texture from farther inside, and where to take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from triportrait.avatar.lifted.outline import BAND_PX, rise_of_face, seen_ears, to_and_fro
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, OUTER_LIPS
from triportrait.geometry.masks import convex_mask, eyes_mask, face_hull
from triportrait.nn.parts import Parts, portrait_parts
from triportrait.types import Array, PreparedPortrait

#: So far from the outline the guessed texture turns back inwards, and how far it goes at most (pixels of a 512 px crop).
_TURN_BACK_PX, _TEXTURE_PX = 12, 56
#: Strands that begin farther inside belong to something else; a slit between strands is no wider than twice this.
_BEGIN_PX, _SLIT_PX = 32, 6
#: They are evened over this share of the picture's side, on a grid of so many cells.
_EVENED, _CELLS = 0.025, 128
#: Their rim is cut hard: texture lies so much farther inside.
_INSIDE_PX = 4
#: Wide blurs are computed on a grid so many times coarser.
_COARSER = 4
#: How strong it is there.
_TEXTURE = 0.8
#: Farther from the outline than this (pixels of a 512 px crop) the photo shows nothing of the scene.
_DEEP_PX = 20
#: A colour of which the scene makes up more than this share tells nothing about the person.
_OF_SCENE = 0.4
#: What is lighter than its half of the head by this share is lit from behind; so much of the picture tells how light that is.
_LIGHTER, _ENOUGH_SHARE = 0.25, 0.002
#: Such light is left with its own by this exponent.
_FORM = 0.5
#: Fewer pixels (of a 512 px crop) tell no colour.
_FEWEST = 50


def guess_places(
    shown: Array, inside_px: Array, height_px: Array, far_px: Array, growth_px: Array, signed: Array, strands: Array, margin: int
) -> tuple[Array, Array, Array]:
    """Pixels [n, 2] whose texture the rim and the far side show, and those whose colour the far side has.

    Texture goes back inwards from where the rim turns away, at the photo's own scale along the surface, and on so on the far side. Where
    the ``strands`` [s, s] (0..1) end it turns round.
    """
    import cv2

    size = len(signed) - 2 * margin
    unit = size / 512
    down, across = np.gradient(cv2.GaussianBlur(signed, (0, 0), 4 * unit))
    column, row = (np.clip(shown[:, c] + margin, 0, len(signed) - 1).astype(int) for c in (0, 1))
    into = np.stack([across, down], -1)[row, column]
    into /= np.maximum(np.linalg.norm(into, axis=1, keepdims=True), 1e-3)
    rim = (inside_px > -unit) & (inside_px < _TEXTURE_PX * unit)
    begin, wide = _evened(np.stack(_strands_px(shown, into, strands, unit), -1), shown, rim, size).T
    turn = np.maximum(np.minimum(_TURN_BACK_PX * unit, 0.4 * wide), np.minimum(begin + _INSIDE_PX * unit, 0.8 * wide))
    turn_length = np.hypot(turn, np.sqrt(np.maximum(growth_px * turn, 0.0)))
    depth = np.maximum(inside_px, 0.0)
    near_way = np.maximum(turn + turn_length - np.hypot(depth, height_px) - depth, 0.0) * (depth < turn)
    far_way = turn + turn_length + np.hypot(depth, far_px) - depth
    # Counted from the outline, texture lies between the turn and the strands' end.
    band = np.maximum(wide - turn, 1.0)
    places = []
    for way in (near_way, far_way):
        beyond = depth + way - turn
        folded = np.where(beyond > 0, turn + to_and_fro(beyond, band), depth + way) - depth
        places.append(shown + into * folded[:, None])
    places.append(shown - into * np.maximum(depth - turn, 0.0)[:, None])
    near, far, colour = (np.clip(place, 0, size) for place in places)
    return near, far, colour


def _evened(values: Array, at: Array, counted: Array, size: int) -> Array:
    """Values [n, c] at pixels ``at`` [n, 2] of a picture ``size`` wide as means of those round them that are ``counted`` [n]: [n, c].

    What jumps from node to node would tear texture.
    """
    import cv2

    column, row = (np.clip((at[:, c] * _CELLS / size).astype(int), 0, _CELLS - 1) for c in (0, 1))
    sums = np.zeros((_CELLS, _CELLS, values.shape[1] + 1))
    np.add.at(sums, (row[counted], column[counted]), np.column_stack([values, np.ones(len(values))])[counted])
    sums = cv2.GaussianBlur(sums, (0, 0), _EVENED * _CELLS)
    near = sums[row, column]
    return np.where(near[:, -1:] > 1e-3, near[:, :-1] / np.maximum(near[:, -1:], 1e-3), values)


def _strands_px(shown: Array, into: Array, strands: Array, unit: float) -> tuple[Array, Array]:
    """Where strands begin and end from the outline inwards along ``into`` [n, 2] past the pixels ``shown`` [n, 2]: float64 [n] each."""
    import cv2

    size = len(strands)
    steps = np.arange(0.0, _TEXTURE_PX + 1e-3, 2.0) * unit
    places = shown[:, None] + into[:, None] * steps[:, None]
    column, row = (np.clip(places[..., c], 0, size - 1).astype(int) for c in (0, 1))
    # The outline itself is soft: strands begin somewhere inside it. A slit ends nothing.
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(_SLIT_PX * unit) + 1,) * 2)
    closed = cv2.morphologyEx((strands >= 0.5).astype(np.uint8), cv2.MORPH_CLOSE, window)
    there = closed[row, column] > 0
    ended = ~there & (steps > 4 * unit) & (np.logical_or.accumulate(there, 1) | (steps > _BEGIN_PX * unit))
    begin = np.where(there.any(1), steps[there.argmax(1)], 0.0)
    return begin * (begin < _BEGIN_PX * unit), np.where(ended.any(1), steps[ended.argmax(1)], steps[-1])


class PlainColours(NamedTuple):
    """A photo without eyes, brows, lips and ears, of which there is no second behind the outline.

    Args:
        low: float32 [s, s, 3], colours of what faces the viewer, smoothed, and ``rim``, those just inside the outline.
        detail: float32 [s, s, 3], texture of mean 0.
        beside_ears: float32 [s, s, 4], the colours of what is no skin, and how far there is an ear that the border cuts (0..1).
        tainted: float32 [s, s], how far hair shows the scene where the matte says person.
        bleached: float32 [s, s], how far light from behind makes the photo lighter than what faces the viewer.
        strands: float32 [s, s], where the head has texture that may go on: hair (1) and nothing else (0).
    """

    low: Array
    rim: Array
    detail: Array
    beside_ears: Array
    tainted: Array
    bleached: Array
    strands: Array


def without_features(portrait: PreparedPortrait, colours: Array, skin: Array, hair: Array, signed: Array) -> PlainColours:
    """What goes on where the photo shows nothing more.

    Args:
        colours: float32 [s, s, 3]; signed: float32 [s, s], pixels to the outline.
        skin: bool [s, s], from :func:`like_the_face`; hair: float32 [s, s], from :func:`triportrait.nn.parts.portrait_parts`.
    """
    import cv2

    size = len(colours)
    unit = size / 512
    points = portrait.landmarks[:, :2].astype(np.float32)
    feature = np.zeros((size, size), np.uint8)
    for rim, low, high in ((EYE_LEFT_RIM, 1.6, 2.6), (EYE_RIGHT_RIM, 1.6, 2.6), (OUTER_LIPS, 1.15, 1.4)):
        hull = cv2.convexHull(points[rim])[:, 0]
        middle = hull.mean(0)
        feature |= convex_mask(middle + (hull - middle) * (low, high), size)
    face = face_hull(portrait.landmarks, size)
    beside = cv2.dilate(face.astype(np.uint8), np.ones((2 * round(2 * unit) + 1,) * 2, np.uint8)) == 0
    ears, _ = seen_ears(portrait, skin, hair)
    skin = skin | ears
    ear = cv2.dilate(ears.astype(np.uint8), np.ones((2 * round(3 * unit) + 1,) * 2, np.uint8))
    solid = signed > 4 * unit
    plain = (solid & (feature == 0) & (ear == 0)).astype(np.float32)
    if not plain.any():
        nothing = np.zeros_like(colours)
        return PlainColours(colours, colours, nothing, np.dstack([colours, nothing[..., 0]]), *(nothing[..., 0],) * 3)
    # Skin goes on as skin, hair as hair.
    tone = cv2.GaussianBlur(skin.astype(np.float32), (0, 0), 2.0 * unit)[..., None]
    deep = signed > _DEEP_PX * unit
    # Light stays where it is: what turns to the viewer will be lit like what faces him, and not like the rim.
    deeper = np.clip(signed / (_DEEP_PX * unit), 0.02, 1.0) ** 2
    head = portrait.head_alpha > 0.5

    def continued(which: Array) -> tuple[Array, Array, Array]:
        inner = _spread(colours, which * deep, 9 * unit)
        clean = _without_scene(colours, inner, portrait.background)
        return _spread(colours, which * clean * deeper, 9 * unit), _spread(colours, which * clean, 9 * unit), 1.0 - clean

    other = plain * ~skin
    # Above clothes there may be little hair, but it is hair; glasses are none, nor is a face's sheen or shade.
    for only in (head, beside, hair > 0.5):
        if (other * only).sum() > _FEWEST * unit * unit:
            other *= only
    (bare_low, bare_rim, _), (other_low, other_rim, tainted) = continued(plain * skin), continued(other)
    near_head = cv2.GaussianBlur(portrait.head_alpha, (0, 0), 6.0 * unit)[..., None]
    bare_facing = bare_low + near_head * (_as_facing(bare_low, colours, plain * skin * deep * head, face) - bare_low)
    other_facing = other_low + near_head * (_as_facing(other_low, colours, other * deep, face) - other_low)
    low, rim = tone * bare_facing + (1 - tone) * other_facing, tone * bare_rim + (1 - tone) * other_rim
    # A face's rim is lit and dark as it likes; hair is not.
    off_face = cv2.dilate(face.astype(np.uint8), np.ones((2 * round(_DEEP_PX * unit) + 1,) * 2, np.uint8)) == 0
    tainted = cv2.GaussianBlur(tainted * (off_face & ~skin & ~deep), (0, 0), 2.0 * unit)
    soft: Any = cv2.GaussianBlur(colours, (0, 0), 2.0 * unit)
    lighter = (soft.sum(-1) + 1.0) / (low.sum(-1) + 1.0) - 1.0
    bleached = np.clip(lighter / _LIGHTER - 1.0, 0.0, 1.0) * _paler(soft, low) * (head & skin & (feature == 0))
    bleached = cv2.GaussianBlur(bleached.astype(np.float32), (0, 0), 3.0 * unit)
    # Its form still shows.
    low *= (np.maximum(soft, 1.0) / np.maximum(low, 1.0)) ** (_FORM * bleached[..., None])
    # Smooth skin needs no texture; strands and locks do.
    bare = cv2.dilate((skin | face).astype(np.uint8), np.ones((2 * round(3 * unit) + 1,) * 2, np.uint8))
    strands = cv2.GaussianBlur(plain * (1 - bare), (0, 0), 3 * unit)
    known = other * (1 - bare) * head * (tainted < 0.5)
    fine = (colours - _blurred(colours, known, 16.0 * unit)[0]) * (_TEXTURE * strands * known)[..., None]
    cut_ears = cv2.GaussianBlur(_ears_at_borders(portrait, beside, skin).astype(np.float32), (0, 0), 3.0 * unit)
    return PlainColours(low, rim, np.ascontiguousarray(fine), np.dstack([other_low, cut_ears]), tainted, bleached, known)


def _as_facing(low: Array, colours: Array, which: Array, face: Array) -> Array:
    """Colours ``low`` [s, s, 3] no lighter than ``which`` [s, s] of ``colours`` [s, s, 3] are on either half of the ``face`` bool [s, s].

    Light from behind shines along cheeks and hair: turned to the viewer they are neither lit nor bleached by it.
    """
    columns = np.flatnonzero(face.any(0))
    if not len(columns):
        return low
    first, last = float(columns[0]), float(columns[-1]) + 1.0
    across = np.clip((np.arange(face.shape[1]) + 0.5 - first) / (last - first), 0.0, 1.0)
    chosen, right = which > 0.5, across > 0.5
    halves = [colours[:, half][chosen[:, half]] for half in (~right, right)]
    if min(len(half) for half in halves) < _ENOUGH_SHARE * face.size:
        return low
    typical = np.stack([np.median(half, axis=0) for half in halves]).astype(np.float64)
    of_column = (typical[0] + across[:, None] * (typical[1] - typical[0])).astype(np.float32)
    light = low.sum(-1, keepdims=True) + 1.0
    # What is too light takes on the typical colour as far as it is.
    share = np.clip((light / (of_column.sum(-1, keepdims=True) + 1.0) - 1.0) / _LIGHTER, 0.0, 1.0)
    return np.asarray(low + share * (np.float32(1.0 + 0.5 * _LIGHTER) * of_column - low), np.float32)


def _paler(colours: Array, others: Array) -> Array:
    """How much less vivid ``colours`` [s, s, 3] are than ``others``: [s, s], 1 where half as much or less."""
    vivid, other = (1.0 - (part.min(-1) + 1.0) / (part.max(-1) + 1.0) for part in (colours, others))
    return np.asarray(np.clip(2.0 * (1.0 - vivid / np.maximum(other, 0.05)), 0.0, 1.0))


def _ears_at_borders(portrait: PreparedPortrait, beside: Array, skin: Array) -> Array:
    """The rows of ears, of which ``skin`` tells, that the left or right border cuts: bool [s, s].

    Args:
        beside: bool [s, s], outside the face; skin: bool [s, s].
    """
    size = len(beside)
    band = round(BAND_PX * size / 512)
    rise = rise_of_face(portrait)
    level = beside & (portrait.head_alpha > 0.5) & (rise > 0.02) & (rise < 1.3)
    at_borders = np.zeros_like(level)
    if not level[:, [0, -1]].any():
        return at_borders
    ear = level & skin
    for columns in (slice(None, band), slice(size - band, None)):
        if level[:, columns][:, [0, -1]].any():
            at_borders[:, columns] = ear[:, columns].any(1)[:, None]
    return at_borders


def _without_scene(colours: Array, inner: Array, scene: Array) -> Array:
    """How little of the scene shows through ``colours`` [s, s, 3], on the line from the ``scene`` to the person's ``inner``: [s, s], 0..1.

    A matte that goes too far calls scene hair: continued behind the outline it would be a patch of wall on the head.
    """
    across = inner - scene
    share = 1.0 - ((colours - scene) * across).sum(-1) / np.maximum((across**2).sum(-1), 1.0)
    return np.clip(1.0 - share / _OF_SCENE, 0.0, 1.0).astype(np.float32)


def _blurred(colours: Array, known: Array, width_px: float) -> tuple[Array, Array]:
    """Means of the ``known`` [s, s] of ``colours`` [s, s, 3], and how much is known round each pixel: [s, s]."""
    import cv2

    weight = cv2.GaussianBlur(known.astype(np.float32), (0, 0), width_px)
    shown: Any = colours * known[..., None].astype(np.float32)
    return cv2.GaussianBlur(shown, (0, 0), width_px) / np.maximum(weight, 1e-3)[..., None], weight


def _spread(colours: Array, known: Array, width_px: float) -> Array:
    """Colours [s, s, 3] blurred over what is ``known`` [s, s], and far from that continued; as they are where nothing is known."""
    import cv2

    if not known.any():
        return colours
    # Blurred so widely a picture has nothing fine: it is computed on a coarser grid.
    size = len(colours)
    small = (round(size / _COARSER), round(size / _COARSER))
    weight: Any = known.astype(np.float32)
    shown, weight = (cv2.resize(part, small, interpolation=cv2.INTER_AREA) for part in (colours * weight[..., None], weight))
    shown, weight = (cv2.GaussianBlur(part, (0, 0), width_px * small[0] / size) for part in (shown, weight))
    mean = shown / np.maximum(weight, 1e-3)[..., None]
    spread: Any = push_pull(mean, np.clip(weight / 0.05, 0.0, 1.0) * (weight > 2e-3))
    return np.asarray(cv2.resize(spread, (size, size), interpolation=cv2.INTER_LINEAR))


def sampled(picture: Array, places: Array) -> Array:
    """Bilinear values [n, c] of [s, s, c] at pixels [n, 2]."""
    import cv2

    places = places.astype(np.float32) - 0.5
    rows = np.array_split(np.arange(len(places)), -(-len(places) // 30000))
    parts = [cv2.remap(picture, places[None, r, 0], places[None, r, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0] for r in rows]
    return np.concatenate(parts)


def like_the_face(portrait: PreparedPortrait, parts: Parts | None = None) -> Array:
    """Where the person is skin, of the face, the ears, the neck or a bald head: bool [s, s]. Eyes count as such whatever their colour.

    Args:
        parts: what the network says of the portrait; None asks it.
    """
    import cv2

    parts = portrait_parts(portrait) if parts is None else parts
    skin = (parts.skin > 0.5) & (portrait.person_alpha > 0.05) | eyes_mask(portrait.landmarks, len(portrait.image))
    return cv2.morphologyEx(skin.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(bool)


def bare_scalp(portrait: PreparedPortrait, skin: Array) -> Array:
    """Where skin goes on above the face without hair, joined to it: bool [s, s].

    Args:
        skin: from :func:`like_the_face`.
    """
    import cv2

    face = face_hull(portrait.landmarks, len(portrait.image))
    _, labels = cv2.connectedComponents((skin | face).astype(np.uint8))
    return (labels == np.bincount(labels[face]).argmax()) & ~face
