"""One ray integral over the slabs of two fields, compiled and exact: within a slab the density is even.

Along a ray the head's slab and the static field's cut each other into three pieces at most. In each of them densities add and the colour is
their mean weighted by density, so that no order has to be decided: who is nearer hides the other, who lies within the other mixes with it
(Max, "Optical models for direct volume rendering", 1995; the dual-branch field's ``union``). Tests hold the kernel against a fine sum.
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.geometry.texels import texel_before

_0, _1, _2, _HALF, _LEVELS = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5), np.float32(255)
#: A matte of 1 has this optical depth; more than what is left then comes through in less than a tenth of a level.
_OPAQUE = np.float32(8)
_LEAST_LIGHT = np.float32(np.exp(-8.0))
#: A layer below this matte is not there.
_NOTHING = np.float32(1e-4)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _folded(place, size, band):
    """A place in pixels; beyond the borders 0 and ``size`` it goes to and fro within ``band`` of them, for there is no second collar."""
    beyond = max(-place, place - size)
    if beyond <= _0:
        return place
    inside = band - abs(band - beyond % (_2 * band))
    return inside if place < _0 else size - inside


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _between(field, row, column, down, across, channel):
    """Bilinear value of [s, s, c] after a texel."""
    top = field[row, column, channel] + across * (field[row, column + 1, channel] - field[row, column, channel])
    low = field[row + 1, column, channel] + across * (field[row + 1, column + 1, channel] - field[row + 1, column, channel])
    return top + down * (low - top)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _optical(matte):
    """Optical depth of a matte in 0..1."""
    return min(-np.log(max(_1 - matte, _LEAST_LIGHT)), _OPAQUE)


@njit(nogil=True, cache=True, error_model="numpy")
def two_slabs(near_dm, far_dm, optical_near, optical_far, half_dm):
    """Light that each of two slabs sends to the eye, the first slab's share, the second's, and what comes through both.

    Args:
        near_dm, far_dm: depths of their middles, in any order; the names are those of the usual order.
        optical_near, optical_far: optical depths of the whole slabs.
        half_dm: half their thickness.
    """
    if near_dm > far_dm:
        second, first, left = two_slabs_in_order(near_dm - far_dm, optical_far, optical_near, half_dm)
        return first, second, left
    return two_slabs_in_order(far_dm - near_dm, optical_near, optical_far, half_dm)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def two_slabs_in_order(apart_dm, front, back, half_dm):
    """As :func:`two_slabs` where the front slab's middle lies ``apart_dm`` before the back one's; the front's share comes first."""
    alone = min(apart_dm / (_2 * half_dm), _1)
    # The front alone, both together, the back alone; the shares of each slab's thickness are the same by symmetry.
    passed = np.exp(-front * alone)
    of_front = _1 - passed
    both = (front + back) * (_1 - alone)
    through = np.exp(-both)
    met = passed * (_1 - through)
    total = front + back
    share = front / total if total > _0 else _0
    of_front += met * share
    of_back = met * (_1 - share)
    passed *= through
    last = np.exp(-back * alone)
    of_back += passed * (_1 - last)
    return of_front, of_back, passed * last


@njit(nogil=True, cache=True, error_model="numpy")
def integrate(rgb, alpha, depth, static, static_depth, farther_dm, back, band_px, half_dm, out_rgb, out_alpha, out_depth):
    """The head's layer and the static field behind, beside and within it.

    Args:
        rgb: float32 [s, s, 3], premultiplied 0..1; alpha: float32 [s, s]; depth: float32 [s, s] decimetres, inf where nothing is.
        static: float32 [s, s, 4], straight colours 0..255 and matte of the static field in the photo; static_depth: float32 [s, s], to
            which ``farther_dm`` is added.
        back: float32 [2, 3], from pixels of the picture to the photo's; beyond the photo's borders a band of ``band_px`` goes on.
        half_dm: half the thickness of both slabs.
        out_rgb, out_alpha, out_depth: as the first three, written.
    """
    size = len(alpha)
    for row in range(size):
        for column in range(size):
            x, y = np.float32(column) + _HALF, np.float32(row) + _HALF
            u = _folded(back[0, 0] * x + back[0, 1] * y + back[0, 2], np.float32(size), band_px)
            v = _folded(back[1, 0] * x + back[1, 1] * y + back[1, 2], np.float32(size), band_px)
            i, across = texel_before(u, size)
            j, down = texel_before(v, size)
            across, down = np.float32(across), np.float32(down)
            matte, own = _between(static, j, i, down, across, 3), alpha[row, column]
            if matte < _NOTHING:
                for c in range(3):
                    out_rgb[row, column, c] = rgb[row, column, c]
                out_alpha[row, column], out_depth[row, column] = own, depth[row, column]
                continue
            away = static_depth[j, i] + farther_dm
            if own < _NOTHING:
                of_head, of_static = _0, matte
                out_alpha[row, column], out_depth[row, column] = matte, away
            else:
                of_head, of_static, left = two_slabs(depth[row, column], away, _optical(own), _optical(matte), half_dm)
                of_head /= own
                out_alpha[row, column] = _1 - left
                out_depth[row, column] = depth[row, column] if of_head * own > of_static else away
            for c in range(3):
                colour = _between(static, j, i, down, across, c) / _LEVELS
                out_rgb[row, column, c] = of_head * rgb[row, column, c] + of_static * colour
