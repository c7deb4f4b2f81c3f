"""Small pictures of a procedural head, fast: one supersampled z-buffer pass, shaded per sample, resolved into all labels at once.

Light is baked per vertex (``procedural_head``); what depends on the view is shaded per sample. Every map comes out of the same samples, so
colour, matte, depth and labels agree to the sample. Compiled by numba; the plain twin is :mod:`triportrait.synth.deferred_torch` (torch).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.compiling import njit
from triportrait.synth.coverage import centres_within, strand_at, strand_box, surface_at
from triportrait.synth.shade import light_from, texels_round
from triportrait.types import Array

#: Materials: skin texture, eyeball, two-sided cut-out card, cloth, mouth's inside, plain vertex light, glass.
SKIN, EYE, CARD, CLOTH, MOUTH, PLAIN, GLASS = range(7)
#: Labels, in the order of the published six-class segmentation.
BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHERS = range(6)


class Sheets(NamedTuple):
    """Triangles and textures of a person; nothing here moves.

    Args:
        triangles: [t, 3] int32; uv: [t, 3, 2] float32, origin bottom left.
        material, label: [t] int8; texture: [t] int8, -1 where the skin's texture is meant.
        skin: [h, w, 3] uint8 sRGB.
        textures: [k, 512, 512, 4] uint8 sRGB and alpha.
        bias: [t] float32, decimetres by which a triangle is brought forward in the z-test (brows on skin).
        glass_cover: share of samples in which lenses are drawn.
    """

    triangles: Array
    uv: Array
    material: Array
    label: Array
    texture: Array
    skin: Array
    textures: Array
    bias: Array
    glass_cover: float = 0.1


class Moment(NamedTuple):
    """Where everything is in one frame.

    Args:
        posed: [v, 3] float32 in front of the camera.
        points, normals: [v, 3] in the light's frame, and ``eye`` [3], where the camera stands in it.
        light: [v, 3] float32, light that is scattered (irradiance over pi).
        head: [v] float32, share of the head layer.
        offset: [v, 3] decimetres of head space, from this frame's unposed head to the photograph's.
        strand_points: [n, s, 3] posed; strand_light: [n, s, 3] radiance; strand_width: [n] decimetres.
        strand_head: [n]; strand_offset: [n, 3], as ``offset``; strand_label: [n] int8.
    """

    posed: Array
    points: Array
    normals: Array
    eye: Array
    light: Array
    head: Array
    offset: Array
    strand_points: Array
    strand_light: Array
    strand_width: Array
    strand_head: Array
    strand_offset: Array
    strand_label: Array


class Picture(NamedTuple):
    """One frame; s is its side in pixels.

    Args:
        head_rgb: [s, s, 3] float32 in 0..1, the head layer premultiplied by its matte ``head_alpha`` [s, s].
        person_rgb, person_alpha: the same of the whole person.
        depth: [s, s] camera depth in decimetres of what the head layer shows, inf where nothing is.
        offset: [s, s, 3] decimetres, from that surface's place on the frame's unposed head to its place on the photograph's.
        labels: [6, s, s] coverage of each class, summing to 1.
    """

    head_rgb: Array
    head_alpha: Array
    person_rgb: Array
    person_alpha: Array
    depth: Array
    offset: Array
    labels: Array

    @staticmethod
    def empty(size_px: int) -> Picture:
        """Nothing drawn."""
        colours, mattes = np.zeros((3, size_px, size_px, 3), np.float32), np.zeros((2, size_px, size_px), np.float32)
        depth, labels = np.full((size_px, size_px), np.inf, np.float32), np.zeros((6, size_px, size_px), np.float32)
        return Picture(colours[0], mattes[0], colours[1], mattes[1], depth, colours[2], labels)


class _Samples(NamedTuple):
    """What each of the S x S samples sees: face int32 (-1 nothing, from -2 downwards strands), its weights or place on the strand first and
    second, depth away, and colour [S, S, 3]; float32."""

    face: Array
    first: Array
    second: Array
    away: Array
    colour: Array


class _Look(NamedTuple):
    """Levels of the light [4, h, w, 3], exposure [3], and the tables from sRGB to linear light and from there to the display."""

    levels: Array
    exposure: Array
    linear: Array
    tone: Array


def srgb_to_linear_table() -> Array:
    """[256] float32."""
    value = np.arange(256) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def tone_table(size: int = 1024, most: float = 8.0) -> Array:
    """[size] float32: display value 0..1 of radiance ``most * (i / (size - 1))^2``; a filmic curve, then sRGB."""
    x = most * (np.arange(size) / (size - 1.0)) ** 2
    curve = x * (1.35 * x + 0.06) / (x * (1.30 * x + 0.62) + 0.065)
    encoded = np.where(curve <= 0.0031308, 12.92 * curve, 1.055 * np.maximum(curve, 1e-9) ** (1.0 / 2.4) - 0.055)
    return np.clip(encoded, 0.0, 1.0).astype(np.float32)


_LINEAR = srgb_to_linear_table()
_TONE = tone_table()


def draw(sheets: Sheets, moment: Moment, levels: Array, exposure: Array, focal: float, size_px: int, samples: int = 3) -> Picture:
    """Draw one frame.

    Args:
        sheets, moment: what and where.
        levels: [4, h, w, 3] float32, blurred copies of the light, in its own frame.
        exposure: [3] float32 factor on radiance before the tone curve.
        focal: focal length in picture widths.
        size_px: side of the picture.
        samples: per pixel and axis.
    """
    big = size_px * samples
    depth = 10.0 - moment.posed[:, 2]
    scale = (focal * big) / depth
    screen = np.empty((len(depth), 3), np.float32)
    screen[:, 0] = 0.5 * big + moment.posed[:, 0] * scale
    screen[:, 1] = 0.5 * big - moment.posed[:, 1] * scale
    screen[:, 2] = depth
    first, second = np.zeros((2, big, big), np.float32)
    drawn = _Samples(
        np.full((big, big), -1, np.int32),
        first,
        second,
        np.full((big, big), np.inf, np.float32),
        np.zeros((big, big, 3), np.float32),
    )
    _draw_triangles(screen, sheets, drawn)
    if len(moment.strand_points):
        _draw_strands(moment.strand_points, moment.strand_width, focal, drawn)
    _shade(sheets, moment, _Look(levels, exposure.astype(np.float32), _LINEAR, _TONE), drawn)
    picture = Picture.empty(size_px)
    _resolve(sheets, moment, drawn, samples, picture)
    return picture


@njit(cache=True, fastmath=True, inline="always")
def _chance(x, y, t):  # type: ignore[no-untyped-def]
    h = (x * 73856093) ^ (y * 19349663) ^ (t * 83492791)
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    return (h & 0xFFFFFF) / 16777216.0


@njit(cache=True, fastmath=True)
def _draw_triangles(screen, sheets, drawn):  # type: ignore[no-untyped-def]
    """Vertices ``screen`` [v, 3], pixels and depth."""
    triangles, uv, material, texture, textures = sheets.triangles, sheets.uv, sheets.material, sheets.texture, sheets.textures
    bias, glass_cover = sheets.bias, sheets.glass_cover
    face, first, second, away = drawn.face, drawn.first, drawn.second, drawn.away
    height, width = face.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        if min(za, min(zb, zc)) < 1.0:
            continue
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        kind = material[t]
        # Counter-clockwise outside has negative area with y down; cards, cloth and glass are seen from both sides.
        if area == 0.0 or (area > 0.0 and (kind == SKIN or kind == EYE or kind == MOUTH)):
            continue
        left, right = centres_within(min(ax, min(bx, cx)), max(ax, max(bx, cx)), width)
        top, bottom = centres_within(min(ay, min(by, cy)), max(ay, max(by, cy)), height)
        if left > right or top > bottom:
            continue
        corners, inverse, nearness = (ax, ay, bx, by, cx, cy), 1.0 / area, (1.0 / za, 1.0 / zb, 1.0 / zc)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                z, p1, p2 = surface_at(corners, inverse, nearness, x + 0.5, y + 0.5)
                near = z - bias[t]
                if z < 0.0 or near >= away[y, x]:
                    continue
                if kind == CARD:
                    p0 = 1.0 - p1 - p2
                    u = p0 * uv[t, 0, 0] + p1 * uv[t, 1, 0] + p2 * uv[t, 2, 0]
                    v = p0 * uv[t, 0, 1] + p1 * uv[t, 1, 1] + p2 * uv[t, 2, 1]
                    tx = min(max(int(u * 512.0), 0), 511)
                    ty = min(max(int((1.0 - v) * 512.0), 0), 511)
                    if textures[texture[t], ty, tx, 3] <= 255.0 * _chance(x, y, t):
                        continue
                elif kind == GLASS and _chance(x, y, 7) > glass_cover:
                    continue
                away[y, x] = near
                face[y, x] = t
                first[y, x], second[y, x] = p1, p2


@njit(cache=True, fastmath=True)
def _draw_strands(points, thickness, focal, drawn):  # type: ignore[no-untyped-def]
    """Each segment covers the samples closer to it than half its width; thinner ones cover by chance. face = -2 - strand."""
    face, first, second, away = drawn.face, drawn.first, drawn.second, drawn.away
    height, width = away.shape
    steps = points.shape[1]
    for i in range(points.shape[0]):
        for s in range(steps - 1):
            z0, z1 = 10.0 - points[i, s, 2], 10.0 - points[i, s + 1, 2]
            if z0 < 1.0 or z1 < 1.0:
                continue
            f0, f1 = focal * width / z0, focal * width / z1
            start = (0.5 * width + points[i, s, 0] * f0, 0.5 * height - points[i, s, 1] * f0, z0)
            end = (0.5 * width + points[i, s + 1, 0] * f1, 0.5 * height - points[i, s + 1, 1] * f1, z1)
            half = 0.5 * thickness[i] * f0 * (1.0 - 0.5 * s / (steps - 1))
            cover = min(half / 0.55, 1.0)
            half = max(half, 0.55)
            left, right, top, bottom = strand_box(start, end, half, (width, height))
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    run, z = strand_at(start, end, half, x + 0.5, y + 0.5)
                    if run >= 0.0 and z < away[y, x] and (cover >= 1.0 or _chance(x, y, i) < cover):
                        away[y, x] = z
                        face[y, x] = -2 - i
                        first[y, x], second[y, x] = run, s


@njit(cache=True, fastmath=True, inline="always")
def _tone(value, table):  # type: ignore[no-untyped-def]
    at = np.sqrt(max(value, 0.0) * 0.125) * 1023.0
    if at >= 1022.0:
        return table[1023]
    low = int(at)
    part = at - low
    return table[low] * (1.0 - part) + table[low + 1] * part


@njit(cache=True, fastmath=True)
def _texel(texture, u, v, linear, out):  # type: ignore[no-untyped-def]
    """Bilinear, linear light -> ``out`` [3]; origin bottom left."""
    xa, xb, fx, ya, yb, fy = texels_round(u, v, texture.shape[1], texture.shape[0])
    for c in range(3):
        out[c] = (1.0 - fy) * ((1.0 - fx) * linear[texture[ya, xa, c]] + fx * linear[texture[ya, xb, c]]) + fy * (
            (1.0 - fx) * linear[texture[yb, xa, c]] + fx * linear[texture[yb, xb, c]]
        )


@njit(cache=True, fastmath=True)
def _shade(sheets, moment, look, drawn):  # type: ignore[no-untyped-def]
    """Colour every sample."""
    triangles, uv, material, texture = sheets.triangles, sheets.uv, sheets.material, sheets.texture
    skin, textures = sheets.skin, sheets.textures
    points, normals, eye, light, strand_light = moment.points, moment.normals, moment.eye, moment.light, moment.strand_light
    levels, exposure, linear, tone = look.levels, look.exposure, look.linear, look.tone
    face, first, second, colour = drawn.face, drawn.first, drawn.second, drawn.colour
    height, width = face.shape
    base, shine, wide = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    for y in range(height):
        for x in range(width):
            t = face[y, x]
            if t == -1:
                continue
            if t < -1:
                i, s, run = -2 - t, int(second[y, x]), first[y, x]
                for c in range(3):
                    value = (1.0 - run) * strand_light[i, s, c] + run * strand_light[i, s + 1, c]
                    colour[y, x, c] = _tone(value * exposure[c], tone)
                continue
            w1, w2 = first[y, x], second[y, x]
            w0 = 1.0 - w1 - w2
            a, b, c_ = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u = w0 * uv[t, 0, 0] + w1 * uv[t, 1, 0] + w2 * uv[t, 2, 0]
            v = w0 * uv[t, 0, 1] + w1 * uv[t, 1, 1] + w2 * uv[t, 2, 1]
            kind = material[t]
            if kind == SKIN:
                _texel(skin, u, v, linear, base)
            elif kind == PLAIN or kind == GLASS:
                base[0] = base[1] = base[2] = 1.0
            else:
                _texel(textures[texture[t]], u, v, linear, base)
            amount, glint = 0.0, 0.0
            if kind == SKIN or kind == EYE or kind == GLASS or kind == MOUTH or kind == PLAIN:
                nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c_, 0]
                ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c_, 1]
                nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c_, 2]
                vx = eye[0] - (w0 * points[a, 0] + w1 * points[b, 0] + w2 * points[c_, 0])
                vy = eye[1] - (w0 * points[a, 1] + w1 * points[b, 1] + w2 * points[c_, 1])
                vz = eye[2] - (w0 * points[a, 2] + w1 * points[b, 2] + w2 * points[c_, 2])
                length = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz)
                vx, vy, vz = vx * length, vy * length, vz * length
                length = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
                nx, ny, nz = nx * length, ny * length, nz * length
                facing = nx * vx + ny * vy + nz * vz
                if facing < 0.0 and (kind == PLAIN or kind == GLASS):
                    nx, ny, nz, facing = -nx, -ny, -nz, -facing
                if facing < 0.02:
                    facing = 0.02
                rx, ry, rz = 2.0 * facing * nx - vx, 2.0 * facing * ny - vy, 2.0 * facing * nz - vz
                glance = 1.0 - facing
                glance = glance * glance * glance * glance * glance
                if kind == SKIN:
                    light_from(levels[2], rx, ry, rz, shine)
                    light_from(levels[3], rx, ry, rz, wide)
                    amount = 0.028 + 0.16 * glance
                    glint = amount * 0.75 * min(max((ry + 0.55) / 0.7, 0.12), 1.0)
                elif kind == EYE or kind == MOUTH:
                    light_from(levels[0 if kind == EYE else 1], rx, ry, rz, shine)
                    wide[0] = wide[1] = wide[2] = 0.0
                    glint = 0.03 + 0.4 * glance if kind == EYE else 0.015 + 0.06 * glance
                else:
                    light_from(levels[0 if kind == GLASS else 1], rx, ry, rz, shine)
                    wide[0] = wide[1] = wide[2] = 0.0
                    glint = (0.04 if kind == PLAIN else 0.05) + 0.35 * glance
            for c in range(3):
                lit = w0 * light[a, c] + w1 * light[b, c] + w2 * light[c_, c]
                value = base[c] * lit * (1.0 - amount)
                if glint > 0.0:
                    # Light that hardly reaches a point is hardly mirrored there.
                    seen = lit / (lit + 0.15 * wide[c] + 1e-4) if kind == SKIN else lit / (lit + 0.1)
                    value += glint * seen * ((0.45 * shine[c] + 0.55 * wide[c]) if kind == SKIN else shine[c])
                colour[y, x, c] = _tone(value * exposure[c], tone)


@njit(cache=True, fastmath=True)
def _resolve(sheets, moment, drawn, samples, picture):  # type: ignore[no-untyped-def]
    """Average ``samples`` x ``samples`` into each pixel of a :class:`Picture`."""
    face, first, second, away, colour = drawn.face, drawn.first, drawn.second, drawn.away, drawn.colour
    triangles, label = sheets.triangles, sheets.label
    head, offset = moment.head, moment.offset
    strand_head, strand_offset, strand_label = moment.strand_head, moment.strand_offset, moment.strand_label
    head_rgb, head_alpha = picture.head_rgb, picture.head_alpha
    person_rgb, person_alpha = picture.person_rgb, picture.person_alpha
    depth, out_offset, labels = picture.depth, picture.offset, picture.labels
    size = head_alpha.shape[0]
    share = 1.0 / (samples * samples)
    sums = np.zeros(4)
    for y in range(size):
        for x in range(size):
            count = 0
            sums[:] = 0.0
            for sy in range(y * samples, (y + 1) * samples):
                for sx in range(x * samples, (x + 1) * samples):
                    t = face[sy, sx]
                    if t == -1:
                        labels[BACKGROUND, y, x] += share
                        continue
                    person_alpha[y, x] += share
                    for c in range(3):
                        person_rgb[y, x, c] += share * colour[sy, sx, c]
                    if t < -1:
                        amount = strand_head[-2 - t]
                        labels[strand_label[-2 - t], y, x] += share
                    else:
                        w1, w2 = first[sy, sx], second[sy, sx]
                        w0 = 1.0 - w1 - w2
                        a, b, c_ = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                        amount = w0 * head[a] + w1 * head[b] + w2 * head[c_]
                        kind = label[t]
                        if kind == FACE_SKIN and amount < 0.5:
                            kind = BODY_SKIN
                        labels[kind, y, x] += share
                    if amount <= 0.0:
                        continue
                    head_alpha[y, x] += share * amount
                    for c in range(3):
                        head_rgb[y, x, c] += share * amount * colour[sy, sx, c]
                    if amount < 0.3:
                        continue
                    count += 1
                    sums[0] += away[sy, sx]
                    if t < -1:
                        for c in range(3):
                            sums[1 + c] += strand_offset[-2 - t, c]
                    else:
                        for c in range(3):
                            sums[1 + c] += w0 * offset[a, c] + w1 * offset[b, c] + w2 * offset[c_, c]
            if count:
                depth[y, x] = sums[0] / count
                for c in range(3):
                    out_offset[y, x, c] = sums[1 + c] / count
