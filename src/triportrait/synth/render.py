"""Pictures of a scene: jittered z-buffer passes, averaged. Each pass moves the sample point inside the pixel and the lens.

One pass is sharp-edged and fast; a few dozen give smooth edges, soft alpha (each pass draws a texel or not, by chance), thin
hair strands and depth of field at once. Lengths are decimetres, the camera looks along -z.
The kernels have no plain twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from triportrait.compiling import njit
from triportrait.synth.coverage import pixels_touched, strand_at, strand_box, surface_at
from triportrait.synth.shade import CARD, CLOTH, EYE, LASH, SKIN, environment_light, light_from, texel
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class View:
    """A pinhole with a small lens, looking along -z.

    Args:
        position: [3] where it stands.
        size_px: (width, height).
        focal_px: focal length in pixels.
        lens_radius_dm: radius of the aperture; 0 is sharp everywhere.
        focus_dm: distance in focus.
    """

    position: tuple[float, float, float]
    size_px: tuple[int, int]
    focal_px: float
    lens_radius_dm: float = 0.0
    focus_dm: float = 10.0

    def project(self, points: Array, lens: tuple[float, float] = (0.0, 0.0)) -> Array:
        """Points [n, 3] -> (x px, y px, depth dm) [n, 3], seen from ``lens`` (dm off the lens' middle)."""
        relative = points - np.asarray(self.position)
        depth = -relative[:, 2]
        shift = self.focal_px * (1.0 / depth - 1.0 / self.focus_dm)
        x = 0.5 * self.size_px[0] + self.focal_px * relative[:, 0] / depth - lens[0] * shift
        y = 0.5 * self.size_px[1] - self.focal_px * relative[:, 1] / depth + lens[1] * shift
        return np.stack([x, y, depth], -1)


class Scene(NamedTuple):
    """Everything that is drawn, light already gathered.

    Args:
        vertices, normals: [v, 3].
        light: [v, 9] scattered irradiance, mean light direction (unit), and (openness to the light, spare, spare).
        triangles: [t, 3] int; uv: [t, 3, 2]; material, texture: [t] int (see ``shade``; texture -1 = ``skin``).
        skin: [h, w, 5] linear albedo, height in decimetres, gloss in 0..1.
        textures: [k, 1024, 1024, 4] linear RGB and alpha.
        eye_frames: [2, 4, 3] per eye (image right first): centre, gaze, and (eyeball radius, 0, 0), spare.
        environment, levels: of :class:`shade.Environment`.
        strand_points: [n, s, 3]; strand_colour: [n, s, 3] radiance; strand_width_dm: [n], narrowing to the tip.
    """

    vertices: Array
    normals: Array
    light: Array
    triangles: Array
    uv: Array
    material: Array
    texture: Array
    skin: Array
    textures: Array
    eye_frames: Array
    environment: Array
    levels: Array
    strand_points: Array
    strand_colour: Array
    strand_width_dm: Array


def render(scene: Scene, view: View, passes: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Average of ``passes`` jittered pictures.

    Returns:
        radiance [h, w, 3] premultiplied by coverage, and coverage [h, w].
    """
    width, height = view.size_px
    total, cover = np.zeros((height, width, 3)), np.zeros((height, width))
    eye = np.asarray(view.position, np.float64)
    count, steps = scene.strand_points.shape[:2]
    for k in range(passes):
        # Rank-1 lattices: low discrepancy over pixel and lens together.
        jitter = np.mod(k * np.array([0.754877666, 0.569840291]) + rng.random(2) * 1e-3, 1.0) - 0.5
        radius, turn = np.sqrt((k + 0.5) / passes) * view.lens_radius_dm, k * 2.39996323
        lens = (radius * np.cos(turn), radius * np.sin(turn))
        screen = view.project(scene.vertices, lens)
        screen[:, :2] += jitter
        face = np.full((height, width), -1, np.int32)
        weights = np.zeros((height, width, 2), np.float32)
        depth = np.full((height, width), np.inf, np.float32)
        _draw(screen, scene, k, face, weights, depth)
        picture = np.zeros((height, width, 3))
        _shade(scene, face, weights, eye, picture)
        seen = face >= 0
        if count:
            lines = view.project(scene.strand_points.reshape(-1, 3), lens)
            lines[:, :2] += jitter
            thickness = scene.strand_width_dm * view.focal_px
            _draw_strands(lines.reshape(count, steps, 3), scene.strand_colour, thickness, depth, picture, seen)
        total += picture
        cover += seen
    return total / passes, cover / passes


@njit(cache=True, fastmath=True)
def _hash(x, y, k, t):  # type: ignore[no-untyped-def]
    """A number in 0..1 from four integers."""
    h = (x * 73856093) ^ (y * 19349663) ^ (k * 83492791) ^ (t * 2654435)
    h = (h ^ (h >> 13)) * 1274126177 & 0x7FFFFFFF
    h = (h ^ (h >> 16)) * 2246822519 & 0x7FFFFFFF
    return (h & 0xFFFFFF) / 16777216.0


@njit(cache=True, fastmath=True)
def _draw(screen, scene, k, face, weights, depth):  # type: ignore[no-untyped-def]
    """Vertices ``screen`` [v, 3], pixels and depth, of pass ``k``."""
    triangles, uv, material, texture, textures = scene.triangles, scene.uv, scene.material, scene.texture, scene.textures
    height, width = face.shape
    value = np.zeros(4)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        thin = material[t] == CARD or material[t] == LASH
        # Counter-clockwise outside has negative area with y down; cards are seen from both sides.
        if area == 0.0 or (area > 0.0 and not thin and material[t] != CLOTH):
            continue
        left, right = pixels_touched(min(ax, bx, cx), max(ax, bx, cx), width)
        top, bottom = pixels_touched(min(ay, by, cy), max(ay, by, cy), height)
        corners, inverse = (ax, ay, bx, by, cx, cy), 1.0 / area
        nearness = (1.0 / screen[a, 2], 1.0 / screen[b, 2], 1.0 / screen[c, 2])
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                z, p1, p2 = surface_at(corners, inverse, nearness, x + 0.5, y + 0.5)
                if z < 0.0 or z - (0.02 if material[t] == LASH else 0.0) >= depth[y, x]:
                    continue
                if thin:
                    p0 = 1.0 - p1 - p2
                    texel(
                        textures[texture[t]],
                        p0 * uv[t, 0, 0] + p1 * uv[t, 1, 0] + p2 * uv[t, 2, 0],
                        p0 * uv[t, 0, 1] + p1 * uv[t, 1, 1] + p2 * uv[t, 2, 1],
                        value,
                    )
                    if value[3] <= _hash(x, y, k, t):
                        continue
                depth[y, x] = z
                face[y, x] = t
                weights[y, x, 0], weights[y, x, 1] = p1, p2


@njit(cache=True, fastmath=True)
def _draw_strands(lines, colour, thickness, depth, picture, seen):  # type: ignore[no-untyped-def]
    """Each segment covers the samples closer to it than half its width; widths below a pixel are right on average."""
    height, width = depth.shape
    steps = lines.shape[1]
    for i in range(lines.shape[0]):
        for s in range(steps - 1):
            start = (lines[i, s, 0], lines[i, s, 1], lines[i, s, 2])
            end = (lines[i, s + 1, 0], lines[i, s + 1, 1], lines[i, s + 1, 2])
            half = 0.5 * thickness[i] / start[2] * (1.0 - 0.6 * s / (steps - 1)) * min(0.45 + 0.3 * s, 1.0)
            left, right, top, bottom = strand_box(start, end, half, (width, height))
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    run, z = strand_at(start, end, half, x + 0.5, y + 0.5)
                    if run >= 0.0 and z < depth[y, x]:
                        depth[y, x] = z
                        seen[y, x] = True
                        for c in range(3):
                            picture[y, x, c] = (1.0 - run) * colour[i, s, c] + run * colour[i, s + 1, c]


@njit(cache=True, fastmath=True)
def _shade(scene, face, weights, eye, picture):  # type: ignore[no-untyped-def]
    """Colour every sample, seen from ``eye`` [3]."""
    vertices, normals, light, triangles = scene.vertices, scene.normals, scene.light, scene.triangles
    uv, material, texture, skin, textures = scene.uv, scene.material, scene.texture, scene.skin, scene.textures
    eye_frames, environment, levels = scene.eye_frames, scene.environment, scene.levels
    height, width = face.shape
    base, value, shine = np.zeros(5), np.zeros(4), np.zeros(3)
    right, up = np.zeros(5), np.zeros(5)
    n, view, lit, p, half = np.zeros(3), np.zeros(3), np.zeros(9), np.zeros(3), np.zeros(3)
    wide = np.zeros(3)
    for y in range(height):
        for x in range(width):
            t = face[y, x]
            if t < 0:
                continue
            w1, w2 = weights[y, x, 0], weights[y, x, 1]
            w0 = 1.0 - w1 - w2
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            for j in range(3):
                p[j] = w0 * vertices[a, j] + w1 * vertices[b, j] + w2 * vertices[c, j]
                n[j] = w0 * normals[a, j] + w1 * normals[b, j] + w2 * normals[c, j]
                view[j] = eye[j] - p[j]
            for j in range(9):
                lit[j] = w0 * light[a, j] + w1 * light[b, j] + w2 * light[c, j]
            n /= np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-12
            view /= np.sqrt(view[0] ** 2 + view[1] ** 2 + view[2] ** 2)
            u = w0 * uv[t, 0, 0] + w1 * uv[t, 1, 0] + w2 * uv[t, 2, 0]
            v = w0 * uv[t, 0, 1] + w1 * uv[t, 1, 1] + w2 * uv[t, 2, 1]
            kind = material[t]
            facing = n[0] * view[0] + n[1] * view[1] + n[2] * view[2]
            if facing < 0.0 and (kind == CARD or kind == LASH or kind == CLOTH):
                n *= -1.0
                facing = -facing
            open_ = lit[6]
            if kind == SKIN:
                texel(skin, u, v, base)
                step = 1.0 / skin.shape[0]
                texel(skin, u + step, v, right)
                texel(skin, u, v + step, up)
                hu, hv = (right[3] - base[3]) / step, (up[3] - base[3]) / step
                plain = n[0] * lit[3] + n[1] * lit[4] + n[2] * lit[5]
                _bump(vertices, a, b, c, uv[t], hu, hv, n)
                tilted = n[0] * lit[3] + n[1] * lit[4] + n[2] * lit[5]
                facing = max(n[0] * view[0] + n[1] * view[1] + n[2] * view[2], 0.02)
                relief = (0.6 + tilted) / (0.6 + plain) if plain > -0.2 else 1.0
                relief = min(max(relief, 0.6), 1.35)
                dot = 2.0 * facing
                rx, ry, rz = dot * n[0] - view[0], dot * n[1] - view[1], dot * n[2] - view[2]
                gloss = base[4]
                environment_light(levels, rx, ry, rz, 1.45 - 0.9 * gloss, shine)
                environment_light(levels, rx, ry, rz, 2.6 - 0.6 * gloss, wide)
                fresnel = 0.028 + 0.20 * (1.0 - facing) ** 5
                # What is mirrored from below is the chest, not the floor.
                above = min(max((ry + 0.55) / 0.7, 0.0), 1.0) * min(max((n[1] + 0.65) / 0.5, 0.0), 1.0)
                amount = fresnel * (0.55 + 0.9 * gloss) * open_ * np.sqrt(open_) * (0.12 + 0.88 * above)
                for j in range(3):
                    picture[y, x, j] = base[j] * lit[j] * relief * (1.0 - fresnel) + amount * (0.42 * shine[j] + 0.58 * wide[j])
            elif kind == EYE:
                texel(textures[texture[t]], u, v, value)
                frame = eye_frames[0] if p[0] > 0.0 else eye_frames[1]
                radius = frame[2, 0]
                # The cornea: a smaller sphere set forward; its normal makes the highlight small and crisp.
                ahead = (p[0] - frame[0, 0]) * frame[1, 0] + (p[1] - frame[0, 1]) * frame[1, 1]
                ahead += (p[2] - frame[0, 2]) * frame[1, 2]
                blend = min(max((ahead / radius - 0.80) / 0.08, 0.0), 1.0)
                length = 0.0
                for j in range(3):
                    sphere = (p[j] - frame[0, j]) / radius
                    cornea = p[j] - frame[0, j] - 0.42 * radius * frame[1, j]
                    half[j] = (1.0 - blend) * sphere + blend * cornea / (0.62 * radius)
                    length += half[j] * half[j]
                half /= np.sqrt(length)
                facing = max(half[0] * view[0] + half[1] * view[1] + half[2] * view[2], 0.05)
                rx, ry, rz = 2.0 * facing * half[0] - view[0], 2.0 * facing * half[1] - view[1], 0.0
                rz = 2.0 * facing * half[2] - view[2]
                if blend > 0.3:
                    light_from(environment, rx, ry, rz, shine)
                else:
                    environment_light(levels, rx, ry, rz, 0.6, shine)
                fresnel = 0.03 + 0.6 * (1.0 - facing) ** 5
                for j in range(3):
                    picture[y, x, j] = value[j] * lit[j] + fresnel * shine[j] * min(1.0, open_ * 1.2)
            elif kind == CLOTH:
                texel(textures[texture[t]], u, v, value)
                fuzz = 0.10 * (1.0 - facing) ** 3
                environment_light(levels, n[0], n[1], n[2], 3.0, wide)
                for j in range(3):
                    picture[y, x, j] = (value[j] + fuzz * 0.4) * lit[j] + 0.006 * wide[j] * open_
            else:
                texel(textures[texture[t]], u, v, value)
                for j in range(3):
                    picture[y, x, j] = value[j] * lit[j]


@njit(cache=True, fastmath=True)
def _bump(vertices, a, b, c, uv, hu, hv, n):  # type: ignore[no-untyped-def]
    """Tilt the normal ``n`` by the height field's slopes (dh/du, dh/dv) (Mikkelsen 2010, surface gradient)."""
    du1, dv1 = uv[1, 0] - uv[0, 0], uv[1, 1] - uv[0, 1]
    du2, dv2 = uv[2, 0] - uv[0, 0], uv[2, 1] - uv[0, 1]
    det = du1 * dv2 - du2 * dv1
    if abs(det) < 1e-14:
        return
    pu, pv = np.zeros(3), np.zeros(3)
    for j in range(3):
        e1, e2 = vertices[b, j] - vertices[a, j], vertices[c, j] - vertices[a, j]
        pu[j] = (e1 * dv2 - e2 * dv1) / det
        pv[j] = (e2 * du1 - e1 * du2) / det
    r1 = np.array([pv[1] * n[2] - pv[2] * n[1], pv[2] * n[0] - pv[0] * n[2], pv[0] * n[1] - pv[1] * n[0]])
    r2 = np.array([n[1] * pu[2] - n[2] * pu[1], n[2] * pu[0] - n[0] * pu[2], n[0] * pu[1] - n[1] * pu[0]])
    scale = pu[0] * r1[0] + pu[1] * r1[1] + pu[2] * r1[2]
    if abs(scale) < 1e-12:
        return
    length = 0.0
    for j in range(3):
        n[j] -= (hu * r1[j] + hv * r2[j]) / scale
        length += n[j] * n[j]
    n /= np.sqrt(length)
