"""The lifted avatar's per-pixel work, compiled: from fragments of mesh and mantle to premultiplied colour, matte and depth.

It has no plain twin. Lids are coloured in :mod:`lid_kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.avatar.lifted.lid_kernels import LidFrame, lid_pixel
from triportrait.compiling import njit
from triportrait.geometry.texels import texel_before
from triportrait.types import Array

#: Values of ``kind``: how the triangles of the mesh are coloured.
SKIN, INTERIOR, TEETH, EYE_LEFT, EYE_RIGHT = 0, 1, 2, 3, 4

_0, _HALF, _1, _WHITE = np.float32(0.0), np.float32(0.5), np.float32(1.0), np.float32(255.0)
_PER_WHITE, _SMALL, _FAR = np.float32(1.0 / 255.0), np.float32(1e-6), np.float32(np.inf)
#: A smaller share of a guess is not worth its look-up.
_FAINT = np.float32(0.004)
#: So little behind the mantle's near side its far side is the same rim, and so quickly, per decimetre, it becomes a surface of its own.
_SHARED_DM, _PARTING = np.float32(0.08), np.float32(4.0)
#: What has a larger matte hides what lies behind it.
_SOLID = np.float32(0.9999)
#: The matte jumps where it differs by more within 3 x 3 pixels.
_JUMP = np.float32(0.4)
#: Neighbours that lie so far apart (decimetres) belong to parts of which one hides the other.
_STEP_DM = np.float32(0.1)
#: Lids that close take so much of the light from the eyeball between them (measured on half-closed eyes of 17 people).
_LID_SHADE = np.float32(0.3)
#: A fold of the lips is no deeper than this many pixels.
FOLD_PX = 12


class Drawn(NamedTuple):
    """Fragments: triangle int32 [h, w], barycentric float32 [h, w, 3], depth float32 [h, w]."""

    triangle: Array
    barycentric: Array
    depth: Array

    @staticmethod
    def empty(height: int, width: int) -> Drawn:
        """Not yet cleared."""
        shape = height, width
        return Drawn(np.empty(shape, np.int32), np.empty((*shape, 3), np.float32), np.empty(shape, np.float32))

    def first(self, height: int, width: int) -> Drawn:
        """So large a picture in the first part of this one's memory."""
        count = height * width
        triangle, barycentric, depth = (array.reshape(-1)[: count * array[0, 0].size] for array in self)
        return Drawn(triangle.reshape(height, width), barycentric.reshape(height, width, 3), depth.reshape(height, width))

    def clear(self) -> None:
        """Nothing is drawn; where that is so, barycentric weights mean nothing."""
        self.triangle.fill(-1)
        self.depth.fill(np.inf)


class Skin(NamedTuple):
    """The mesh, whose triangles are coloured by their kind.

    Args:
        triangles: int32 [f, 3], and kind: uint8 [f].
        source_pixels: float32 [v, 2], where the photo, with its lids at ``lids``, shows a vertex (eyeballs: texels of their texture).
        colours: float32 [v, 4], own colour 0..255 and how much it replaces the photo's.
        lid: float32 [v, 2], how far a vertex belongs to the left and right lids, and lids: how far these have closed.
        gain: float32 [v], how much brighter the skin is than in the photo.
        other_half: float32 [v, 3], and relief: float32 [s, s, 3], see :class:`triportrait.avatar.lifted.other_half.OtherHalf`.
    """

    triangles: Array
    kind: Array
    source_pixels: Array
    colours: Array
    lid: Array
    lids: LidFrame
    gain: Array
    other_half: Array
    relief: Array


class Sheet(NamedTuple):
    """The mantle, m nodes.

    Args:
        triangles, far_triangles: int32 [k, 3].
        pixels: float32 [m, 2], where the photo shows a node.
        guess: float32 [m, 5], where the detail is, and the colour 0..255, of what the photo does not show.
        guessed: float32 [m], 0..1, how far a node shows its guess.
        gain: float32 [m].
        detail: float32 [s, s, 3], texture of mean 0.
    """

    triangles: Array
    far_triangles: Array
    pixels: Array
    guess: Array
    guessed: Array
    gain: Array
    detail: Array


class Photo(NamedTuple):
    """Pictures: open float32 [s, s, 4] (0..255, matte 0..1), eyes float32 [2, e, e, 3]."""

    open: Array
    eyes: Array


class BetweenLips(NamedTuple):
    """What lies between the lips.

    Args:
        seen: float32 [h, w, 2], pixels of the photo seen there, and seen_depth: float32 [h, w], inf where there is none.
        seen_trust: 0..1, how far that still fits, and seen_light: 0..1, light on it.
        inside: float32 [a, b, 4], the drawn inside, 0..255, and the share of teeth; its first pixel is at (top, left).
    """

    seen: Array
    seen_depth: Array
    seen_trust: float
    seen_light: float
    inside: Array
    top: int
    left: int


class Shaded(NamedTuple):
    """A picture.

    Args:
        rgb: float32 [h, w, 3] premultiplied 0..1; alpha, depth: float32 [h, w].
        surface: uint8 [h, w]: 0, or 1 + the kind that is shown.
        seen: float32 [h, w], how far it shows what the photo saw and no guess; 1 where nothing is.
    """

    rgb: Array
    alpha: Array
    depth: Array
    surface: Array
    seen: Array

    @staticmethod
    def empty(height: int, width: int) -> Shaded:
        """Not yet written."""
        alpha, depth, seen = np.empty((3, height, width), np.float32)
        return Shaded(np.empty((height, width, 3), np.float32), alpha, depth, np.empty((height, width), np.uint8), seen)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _bilinear(image, x, y):
    """Red, green and blue of [h, w, 3 or more] at pixel coordinates (centres at +0.5), clamped at the border."""
    i, a = texel_before(x, image.shape[1])
    j, b = texel_before(y, image.shape[0])
    first, second, third, fourth = (_1 - a) * (_1 - b), a * (_1 - b), (_1 - a) * b, a * b
    red = first * image[j, i, 0] + second * image[j, i + 1, 0] + third * image[j + 1, i, 0] + fourth * image[j + 1, i + 1, 0]
    green = first * image[j, i, 1] + second * image[j, i + 1, 1] + third * image[j + 1, i, 1] + fourth * image[j + 1, i + 1, 1]
    blue = first * image[j, i, 2] + second * image[j, i + 1, 2] + third * image[j + 1, i, 2] + fourth * image[j + 1, i + 1, 2]
    return red, green, blue


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _with_matte(image, x, y):
    """Colour and matte of [h, w, 4] at pixel coordinates: neighbours count as far as the matte shows them.

    Where a matte jumps, so do the colours under it; between them each by itself, either would show with the other's.
    """
    i, a = texel_before(x, image.shape[1])
    j, b = texel_before(y, image.shape[0])
    first, second = (_1 - a) * (_1 - b) * image[j, i, 3], a * (_1 - b) * image[j, i + 1, 3]
    third, fourth = (_1 - a) * b * image[j + 1, i, 3], a * b * image[j + 1, i + 1, 3]
    matte = first + second + third + fourth
    share = _1 / max(matte, _SMALL)
    red = share * (first * image[j, i, 0] + second * image[j, i + 1, 0] + third * image[j + 1, i, 0] + fourth * image[j + 1, i + 1, 0])
    green = share * (first * image[j, i, 1] + second * image[j, i + 1, 1] + third * image[j + 1, i, 1] + fourth * image[j + 1, i + 1, 1])
    blue = share * (first * image[j, i, 2] + second * image[j, i + 1, 2] + third * image[j + 1, i, 2] + fourth * image[j + 1, i + 1, 2])
    return red, green, blue, matte


@njit(nogil=True, cache=True)
def close_gaps(triangle, barycentric, depth, boxes):
    """Fill gaps of up to two pixels in a mesh, within ``boxes`` int32 [n, 4] (first and last row, first and last column), in place.

    Lids and eyeballs do not share an edge: at the corners of an eye a pixel can fall between them. It shows what lies deeper beside it.
    """
    height, width = triangle.shape
    for box in range(boxes.shape[0]):
        for row in range(max(boxes[box, 0], 2), min(boxes[box, 1] + 1, height - 2)):
            for column in range(max(boxes[box, 2], 2), min(boxes[box, 3] + 1, width - 2)):
                if triangle[row, column] >= 0:
                    continue
                best_row, best_column = -1, -1
                for down, across in ((0, 1), (1, 0)):
                    for before, after in ((1, 1), (1, 2), (2, 1)):
                        y0, x0, y1, x1 = row - before * down, column - before * across, row + after * down, column + after * across
                        if best_row < 0 and triangle[y0, x0] >= 0 and triangle[y1, x1] >= 0:
                            deeper = depth[y0, x0] > depth[y1, x1]
                            best_row, best_column = (y0, x0) if deeper else (y1, x1)
                if best_row >= 0:
                    triangle[row, column] = triangle[best_row, best_column]
                    depth[row, column] = depth[best_row, best_column]
                    for c in range(3):
                        barycentric[row, column, c] = barycentric[best_row, best_column, c]


@njit(nogil=True, cache=True)
def opening(triangle, barycentric, depth, kind, lips, reach):
    """Where a picture shows the mouth's inside: bool [h, w] from triangles int32 [h, w] with depths [h, w] and their kinds uint8 [f].

    Args:
        lips: uint8 [h, w], 2 between the lips, 1 on them, 0 elsewhere. On them a fold of the skin's mesh shows the inside, which becomes
            the nearest skin above or below, less than ``reach`` pixels away. Elsewhere it is taken out of the picture: a gap in the mesh
            would show it through the cheek.
    """
    height, width = triangle.shape
    shown = np.zeros(triangle.shape, np.bool_)
    for row in range(height):
        for column in range(width):
            t = triangle[row, column]
            if t >= 0 and (kind[t] == INTERIOR or kind[t] == TEETH):
                if lips[row, column] == 2:
                    shown[row, column] = True
                    continue
                triangle[row, column] = -1
                depth[row, column] = np.inf
                if lips[row, column] == 0:
                    continue
                for way in range(1, reach):
                    above, below = max(row - way, 0), min(row + way, height - 1)
                    near = above if triangle[above, column] >= 0 and kind[triangle[above, column]] == SKIN else below
                    if triangle[near, column] >= 0 and kind[triangle[near, column]] == SKIN:
                        triangle[row, column] = triangle[near, column]
                        depth[row, column] = depth[near, column]
                        for c in range(3):
                            barycentric[row, column, c] = barycentric[near, column, c]
                        break
    return shown


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _guess(guess, detail, i, j, k, p, q, r):
    """Colour 0..255 of what the photo does not show: an even colour, and texture from elsewhere."""
    x, y = p * guess[i, 0] + q * guess[j, 0] + r * guess[k, 0], p * guess[i, 1] + q * guess[j, 1] + r * guess[k, 1]
    red, green, blue = _bilinear(detail, x, y)
    red += p * guess[i, 2] + q * guess[j, 2] + r * guess[k, 2]
    green += p * guess[i, 3] + q * guess[j, 3] + r * guess[k, 3]
    blue += p * guess[i, 4] + q * guess[j, 4] + r * guess[k, 4]
    return min(max(red, _0), _WHITE), min(max(green, _0), _WHITE), min(max(blue, _0), _WHITE)


@njit(nogil=True, cache=True, error_model="numpy")
def shade(mesh, mantle, far, skin, sheet, photo, between, out):
    """Colour every pixel; the mantle's soft edge lies over whatever the mesh shows behind it.

    All of it counts in single precision, and names every array once: both halve the time.

    Args:
        mesh, mantle, far: :class:`Drawn`; the last is the mantle's mirror image behind everything.
        skin: :class:`Skin`, of the mesh; sheet: :class:`Sheet`, of the mantle.
        photo: :class:`Photo`; between: :class:`BetweenLips`.
        out: :class:`Shaded`, which is written.
    """
    mesh_triangle, mesh_barycentric, mesh_depth = mesh.triangle, mesh.barycentric, mesh.depth
    mantle_triangle, mantle_barycentric, mantle_depth = mantle.triangle, mantle.barycentric, mantle.depth
    far_triangle, far_barycentric, far_depth = far.triangle, far.barycentric, far.depth
    mesh_triangles, kind, source_pixels = skin.triangles, skin.kind, skin.source_pixels
    colours, lid, lids, gain, other_half, relief = skin.colours, skin.lid, skin.lids, skin.gain, skin.other_half, skin.relief
    closure = lids.closure
    photographed = np.empty(3, np.float32)
    mantle_triangles, far_triangles, mantle_pixels = sheet.triangles, sheet.far_triangles, sheet.pixels
    mantle_guess, mantle_guessed, mantle_gain, detail = sheet.guess, sheet.guessed, sheet.gain, sheet.detail
    open_photo, left_eye, right_eye = photo.open, photo.eyes[0], photo.eyes[1]
    view, view_depth = between.seen, between.seen_depth
    view_trust, view_light = np.float32(between.seen_trust), np.float32(between.seen_light)
    inside, inside_top, inside_left = between.inside, between.top, between.left
    out_rgb, out_alpha, out_depth, out_surface, out_seen = out.rgb, out.alpha, out.depth, out.surface, out.seen
    height, width = out_alpha.shape
    for row in range(height):
        for column in range(width):
            t, n, f = mesh_triangle[row, column], mantle_triangle[row, column], far_triangle[row, column]
            depth, surface = _FAR, 0
            if t >= 0:
                depth, surface = mesh_depth[row, column], 1 + kind[t]
            elif f >= 0:
                depth = far_depth[row, column]
            red, green, blue, alpha, matte = _0, _0, _0, _0, _0
            own_red, own_green, own_blue = _0, _0, _0
            seen, own_seen = _1, _1
            nearer = n >= 0 and mantle_depth[row, column] < depth
            if nearer:
                i, j, k = np.uint32(mantle_triangles[n, 0]), np.uint32(mantle_triangles[n, 1]), np.uint32(mantle_triangles[n, 2])
                p, q, r = mantle_barycentric[row, column, 0], mantle_barycentric[row, column, 1], mantle_barycentric[row, column, 2]
                x = p * mantle_pixels[i, 0] + q * mantle_pixels[j, 0] + r * mantle_pixels[k, 0]
                y = p * mantle_pixels[i, 1] + q * mantle_pixels[j, 1] + r * mantle_pixels[k, 1]
                own_red, own_green, own_blue, matte = _with_matte(open_photo, x, y)
                guessed = p * mantle_guessed[i] + q * mantle_guessed[j] + r * mantle_guessed[k]
                own_seen = _1 - guessed
                if guessed > _FAINT:
                    guess_red, guess_green, guess_blue = _guess(mantle_guess, detail, i, j, k, p, q, r)
                    own_red += guessed * (guess_red - own_red)
                    own_green += guessed * (guess_green - own_green)
                    own_blue += guessed * (guess_blue - own_blue)
                brighter = p * mantle_gain[i] + q * mantle_gain[j] + r * mantle_gain[k]
                brighter = _within_white(brighter, own_red, own_green, own_blue)
                own_red, own_green, own_blue = brighter * own_red, brighter * own_green, brighter * own_blue
            if t >= 0 or f >= 0:
                alpha = _1
            if matte < _SOLID and t >= 0:
                i, j, k = np.uint32(mesh_triangles[t, 0]), np.uint32(mesh_triangles[t, 1]), np.uint32(mesh_triangles[t, 2])
                p, q, r = mesh_barycentric[row, column, 0], mesh_barycentric[row, column, 1], mesh_barycentric[row, column, 2]
                x = p * source_pixels[i, 0] + q * source_pixels[j, 0] + r * source_pixels[k, 0]
                y = p * source_pixels[i, 1] + q * source_pixels[j, 1] + r * source_pixels[k, 1]
                what = kind[t]
                if what == EYE_LEFT or what == EYE_RIGHT:
                    red, green, blue = _bilinear(left_eye if what == EYE_LEFT else right_eye, x, y)
                    shaded = _1 - _LID_SHADE * closure[what - EYE_LEFT]
                    red, green, blue = shaded * red, shaded * green, shaded * blue
                elif what == SKIN:
                    side = 0 if lid[i, 0] + lid[j, 0] + lid[k, 0] > _0 else 1
                    if closure[side] > _0 and lid[i, side] + lid[j, side] + lid[k, side] > _0:
                        lid_pixel(open_photo, lids, side, x, y, photographed)
                        red, green, blue = photographed[0], photographed[1], photographed[2]
                    else:
                        red, green, blue = _bilinear(open_photo, x, y)
                    own = p * colours[i, 3] + q * colours[j, 3] + r * colours[k, 3]
                    seen = _1 - own
                    brighter = _within_white(p * gain[i] + q * gain[j] + r * gain[k], red, green, blue)
                    red, green, blue = red * brighter, green * brighter, blue * brighter
                    if own > _FAINT:
                        guess_red = p * colours[i, 0] + q * colours[j, 0] + r * colours[k, 0]
                        guess_green = p * colours[i, 1] + q * colours[j, 1] + r * colours[k, 1]
                        guess_blue = p * colours[i, 2] + q * colours[j, 2] + r * colours[k, 2]
                        used = p * other_half[i, 2] + q * other_half[j, 2] + r * other_half[k, 2]
                        if used > _FAINT:
                            x = p * other_half[i, 0] + q * other_half[j, 0] + r * other_half[k, 0]
                            y = p * other_half[i, 1] + q * other_half[j, 1] + r * other_half[k, 1]
                            relief_red, relief_green, relief_blue = _bilinear(relief, x, y)
                            guess_red = min(guess_red * (_1 + used * (relief_red - _1)), _WHITE)
                            guess_green = min(guess_green * (_1 + used * (relief_green - _1)), _WHITE)
                            guess_blue = min(guess_blue * (_1 + used * (relief_blue - _1)), _WHITE)
                        red += own * (guess_red - red)
                        green += own * (guess_green - green)
                        blue += own * (guess_blue - blue)
                else:
                    y0, x0 = row - inside_top, column - inside_left
                    red, green, blue = inside[y0, x0, 0], inside[y0, x0, 1], inside[y0, x0, 2]
                    surface = 1 + (TEETH if inside[y0, x0, 3] > _HALF else INTERIOR)
                    if view_trust > _0 and view_depth[row, column] < _FAR:
                        seen_red, seen_green, seen_blue = _bilinear(open_photo, view[row, column, 0], view[row, column, 1])
                        red += view_trust * (view_light * seen_red - red)
                        green += view_trust * (view_light * seen_green - green)
                        blue += view_trust * (view_light * seen_blue - blue)
            elif matte < _SOLID and f >= 0:
                i, j, k = np.uint32(far_triangles[f, 0]), np.uint32(far_triangles[f, 1]), np.uint32(far_triangles[f, 2])
                p, q, r = far_barycentric[row, column, 0], far_barycentric[row, column, 1], far_barycentric[row, column, 2]
                red, green, blue = _guess(mantle_guess, detail, i, j, k, p, q, r)
                seen = _0
                if nearer:
                    # Both sides of the mantle share the outline: through soft hair another colour would shine as a line along it.
                    apart = min(max((depth - mantle_depth[row, column] - _SHARED_DM) * _PARTING, _0), _1)
                    red, green, blue = (
                        own_red + apart * (red - own_red),
                        own_green + apart * (green - own_green),
                        own_blue + apart * (blue - own_blue),
                    )
            if nearer:
                behind = (_1 - matte) * alpha
                red, green, blue = matte * own_red + behind * red, matte * own_green + behind * green, matte * own_blue + behind * blue
                alpha = matte + behind
                seen += matte * (own_seen - seen)
                if matte > _HALF:
                    depth, surface = mantle_depth[row, column], 1
            out_rgb[row, column, 0] = red * _PER_WHITE
            out_rgb[row, column, 1] = green * _PER_WHITE
            out_rgb[row, column, 2] = blue * _PER_WHITE
            out_alpha[row, column] = alpha
            out_depth[row, column] = depth
            out_surface[row, column] = surface
            out_seen[row, column] = seen


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _within_white(brighter, red, green, blue):
    """As much of a gain as leaves the brightest channel at 255: cut off one by one, golden light would turn white."""
    most = red if red > green else green
    most = blue if blue > most else most
    return _WHITE / most if most * brighter > _WHITE else brighter


@njit(nogil=True, cache=True, error_model="numpy")
def soften_edges(rgb, alpha, surface, depth):
    """Blur by a 3 x 3 tent where matte or depth jump or one surface meets another, in place: one sample per pixel leaves stairs otherwise.

    A pixel that fell between two sheets and has head all round it becomes their mean. The picture's border stays as it is.
    """
    height, width = alpha.shape
    low, high, meets = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.bool_)
    # What a row becomes is written when the next one has been looked at.
    softened, where, counts = np.empty((2, width, 4), np.float32), np.empty((2, width), np.int32), np.zeros(2, np.int32)
    for row in range(1, height):
        if row < height - 1:
            counts[row % 2] = _edges(alpha, surface, depth, row, low, high, meets, where[row % 2])
            for number in range(counts[row % 2]):
                _soften(rgb, alpha, row, where[row % 2, number], softened[row % 2, number])
        before = (row - 1) % 2
        for number in range(counts[before]):
            column = where[before, number]
            for c in range(3):
                rgb[row - 1, column, c] = softened[before, number, c]
            alpha[row - 1, column] = softened[before, number, 3]


@njit(nogil=True, cache=True, error_model="numpy")
def _edges(alpha, surface, depth, row, low, high, meets, where):
    """Columns of a row at which the matte jumps within 3 x 3 pixels, or surfaces meet or part, into ``where``; returns how many."""
    width = alpha.shape[1]
    for column in range(width):
        above, own, below = alpha[row - 1, column], alpha[row, column], alpha[row + 1, column]
        low[column], high[column] = min(above, min(own, below)), max(above, max(own, below))
        shown, away = surface[row, column], depth[row, column]
        meets[column] = (surface[row - 1, column] != shown) | (surface[row + 1, column] != shown)
        meets[column] |= (abs(depth[row - 1, column] - away) > _STEP_DM) | (abs(depth[row + 1, column] - away) > _STEP_DM)
    count = 0
    for column in range(1, width - 1):
        least = min(low[column - 1], min(low[column], low[column + 1]))
        most = max(high[column - 1], max(high[column], high[column + 1]))
        shown, away = surface[row, column], depth[row, column]
        beside = (surface[row, column - 1] != shown) | (surface[row, column + 1] != shown)
        beside |= (abs(depth[row, column - 1] - away) > _STEP_DM) | (abs(depth[row, column + 1] - away) > _STEP_DM)
        if most - least > _JUMP or beside or meets[column - 1] or meets[column] or meets[column + 1]:
            where[count] = column
            count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _soften(rgb, alpha, row, column, out):
    """What a pixel at an edge becomes: colours and matte [4]."""
    low, high = alpha[row, column], alpha[row, column]
    solid = 0
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            a = alpha[row + dy, column + dx]
            low, high = min(low, a), max(high, a)
            solid += a > 0.9
    fell_between = high - low > _JUMP and alpha[row, column] < 0.9 and solid >= 5
    total_a, total_r, total_g, total_b = 0.0, 0.0, 0.0, 0.0
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            a = alpha[row + dy, column + dx]
            w = (2 - abs(dx)) * (2 - abs(dy)) / 16.0
            if fell_between:
                w = 1.0 / solid if a > 0.9 else 0.0
                a = 1.0
            total_a += w * a
            total_r += w * rgb[row + dy, column + dx, 0]
            total_g += w * rgb[row + dy, column + dx, 1]
            total_b += w * rgb[row + dy, column + dx, 2]
    out[0], out[1], out[2], out[3] = total_r, total_g, total_b, total_a
