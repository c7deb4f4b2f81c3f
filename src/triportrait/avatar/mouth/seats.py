"""How far behind the lips a row of teeth sits that no photo shows: as far as with people who talk.

The model's jaws and lips are fitted to landmarks of lips and skin, and neither tells where the teeth are: measured on real clips, a row
that they place shows up to six millimetres too much or too little. What people show of their teeth differs less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.mouth.parts import MouthPart
from triportrait.types import Array

#: A row is moved so far at most (decimetres), once and for all and in a frame.
_FARTHEST_DM, _FARTHEST_IN_FRAME_DM = 0.1, 0.06
#: Curves that raise or lower a lip, and those of them that part the lips of somebody who talks, with how far they go.
_LIFTING = ("jawOpen", "mouthClose", "mouthFunnel", "mouthLowerDown", "mouthShrugUpper", "mouthUpperUp", "noseSneer")
_TALKING = {"jawOpen": 0.4, "mouthLowerDownLeft": 0.38, "mouthLowerDownRight": 0.38, "mouthUpperUpLeft": 0.18, "mouthUpperUpRight": 0.18}
#: How much of the upper and of the lower teeth people show while they talk: so much (decimetres), and so much more per decimetre between
#: the lips, as measured on eleven speakers of GRID.
_SHOWN = ((0.016, 0.17), (-0.008, 0.32))
#: What of a difference from that the fit knows: of one face from others, and of one moment of a face that talks from others.
_KNOWN, _FOLLOWS = 0.2, 0.5
#: Upper teeth come out from behind their lip downwards, lower ones upwards.
_OUTWARDS = (-1.0, 1.0)
#: Rows lie a centimetre behind the lips: who looks from above or below sees less of one and more of the other, by so many decimetres at
#: most, for a fitted head's pitch is not trusted beyond that. What a decimetre is in the photo is measured over the second length.
_HIDES_DM, _UNIT_DM = 0.04, 0.05
#: Lips that a photo shows this far apart (decimetres) show no more of a row that is not seen between them than so much.
_PARTED_DM, _HIDDEN_DM = 0.03, 0.005


def talking_lips(expression: Array, names: Sequence[str]) -> Array:
    """The curves [e] of a photo with the lips parted as people part them who talk: nothing else raises or lowers a lip."""
    talking = np.array(expression, np.float32)
    for place, name in enumerate(names):
        if name.startswith(_LIFTING):
            talking[place] = _TALKING.get(name, 0.0)
    return talking


def moved_up(row: MouthPart, up_dm: float, farthest_dm: float) -> MouthPart:
    """A row higher up, within limits."""
    points = row.points.copy()
    points[:, 1] += np.clip(up_dm, -farthest_dm, farthest_dm)
    return replace(row, points=points)


@dataclass(frozen=True, slots=True)
class MouthLook:
    """A head whose mouth is looked at as the photo is taken.

    Args:
        vertices: [v, 3], decimetres; lips: [2, 3], the middles of the edges of its upper and its lower lip.
        to_pixels: the photo's projection of points [n, 3] to pixels [n, 2] and depths [n].
    """

    vertices: Array
    lips: Array
    to_pixels: Callable[[Array], tuple[Array, Array]]

    @property
    def gap_dm(self) -> float:
        """Between the lips."""
        return _height_dm(self.lips)

    def shown_dm(self, row: MouthPart, lip: int) -> float:
        """How far the middle of a row's edge is seen to stand out from behind its lip, 0 the upper and 1 the lower one."""
        return _out_dm(_edge(row, self.vertices), self.lips, lip) - self.hidden_dm(row, lip)

    def hidden_dm(self, row: MouthPart, lip: int) -> float:
        """How much less of it is seen than from the height of the lips."""
        edge, behind = _edge(row, self.vertices), self.lips[lip]
        pixels, _ = self.to_pixels(np.stack([edge, behind, behind + np.array((0.0, _UNIT_DM, 0.0), np.float32)]))
        up = pixels[2] - pixels[1]
        seen = _OUTWARDS[lip] * _UNIT_DM * float((pixels[0] - pixels[1]) @ up / max(float(up @ up), 1e-6))
        return float(np.clip(_out_dm(edge, self.lips, lip) - seen, -_HIDES_DM, _HIDES_DM))


@dataclass(frozen=True, slots=True)
class Seat:
    """How far a row whose place is a guess stands out from behind its lip.

    Args:
        lip: 0 for the upper row, 1 for the lower.
        hidden_dm: what a look from the photo's height hides of it.
        less_dm: how much less of it this person shows than is usual.
    """

    lip: int
    hidden_dm: float
    less_dm: float

    def usual_dm(self, gap_dm: float) -> float:
        """How much of the row people like this one show who talk with lips so far apart."""
        return _usually_shown_dm(gap_dm, self.lip) - self.less_dm

    def up_dm(self, edge: Array, lips: Array) -> float:
        """How much higher than it lies to draw a row, the middle of whose edge is [3], behind lips whose edges' middles are [2, 3]."""
        shown = _out_dm(edge, lips, self.lip) - self.hidden_dm
        out = (1.0 - _FOLLOWS) * (self.usual_dm(_height_dm(lips)) - shown)
        return _OUTWARDS[self.lip] * float(np.clip(out, -_FARTHEST_IN_FRAME_DM, _FARTHEST_IN_FRAME_DM))


def seated(
    rows: tuple[MouthPart, MouthPart], still: MouthLook, talking: MouthLook, *, upper_seen: bool, lower_seen: bool = False
) -> tuple[tuple[MouthPart, MouthPart], tuple[Seat, Seat | None]]:
    """The lower and the upper row where those of people who talk are, and their seats.

    Args:
        still: the head as in the photo, and talking: the same with :func:`talking_lips`.
        upper_seen: whether the photo shows the upper row, which is left where it is then and has no seat.
        lower_seen: whether it shows the lower row alone, so that parted lips do not tell that this is hidden.
    """
    lower, upper = rows
    parted = still.gap_dm > _PARTED_DM

    def out(row: MouthPart, lip: int, behind_dm: float = 0.0) -> tuple[MouthPart, Seat]:
        """A row come out from behind its lip, of which the photo hides so much ``behind_dm``."""
        most_dm = np.inf if lip == 1 and lower_seen else max(_HIDDEN_DM, behind_dm)
        # Who has parted lips and shows nothing of a row shows less of it than others.
        less_dm = max(_usually_shown_dm(still.gap_dm, lip) - most_dm, 0.0) if parted else 0.0
        seat = Seat(lip, talking.hidden_dm(row, lip), less_dm)
        out_dm = (1.0 - _KNOWN) * (seat.usual_dm(talking.gap_dm) - talking.shown_dm(row, lip))
        if parted:
            out_dm = min(out_dm, most_dm - still.shown_dm(row, lip))
        return moved_up(row, _OUTWARDS[lip] * out_dm, _FARTHEST_DM), seat

    if upper_seen:
        # In a smile the lower row may stand as high as the upper one hides it.
        lower, below = out(lower, 1, still.gap_dm - still.shown_dm(upper, 0))
        return (lower, upper), (below, None)
    (lower, below), (upper, above) = out(lower, 1), out(upper, 0)
    return (lower, upper), (below, above)


def edge_middle(points: Array, columns: int) -> Array:
    """The middle [3] of the edge of a row whose nodes are [n, 3], so many in a line."""
    return points[columns // 2]


def _edge(row: MouthPart, vertices: Array) -> Array:
    return edge_middle(row.carried(vertices)[0], row.columns)


def _height_dm(lips: Array) -> float:
    """How much higher the upper lip's edge lies than the lower one's, of edges [2, 3]."""
    return max(float(lips[0, 1] - lips[1, 1]), 0.0)


def _out_dm(edge: Array, lips: Array, lip: int) -> float:
    """How much lower than the upper lip's edge, or higher than the lower lip's, a row's edge [3] lies in head space."""
    return _OUTWARDS[lip] * float(edge[1] - lips[lip, 1])


def _usually_shown_dm(gap_dm: float, lip: int) -> float:
    """How much of a row people show who talk with lips so far apart."""
    least, more = _SHOWN[lip]
    return least + more * gap_dm
