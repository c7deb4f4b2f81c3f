"""Build the embedded open head model from ICT-FaceKit (MIT) -> src/triportrait/face/data/open_head.safetensors.

    python scripts/build_open_head.py --data ../shared/data --embedding scripts/open_head_embedding.npz

What is ours: the compact topology (half-edge collapses under quadrics summed over expressions), the identity basis (principal
components of the face under the published prior), the merged ARKit curves, the eyeballs, the tongue's movement, the regions and the
landmark embedding (estimated on photographs by ``scripts/fit_landmark_embedding.py``).
"""

from __future__ import annotations

import argparse
import heapq
import logging
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from triportrait.face.open_head import KIND
from triportrait.nn.model_files import save_network
from triportrait.types import ARKIT_EXPRESSIONS

Array = np.ndarray
log = logging.getLogger("build_open_head")

IDENTITY_SIZE = 80
SKIN, SOCKET, TONGUE, GUMS, TEETH_UPPER, TEETH_LOWER, EYE_LEFT, EYE_RIGHT = range(8)
CM_TO_DM = 0.1
SKIN_END, SOCKET_END, GUMS_END, TEETH_END = 11248, 13294, 17039, 21451
UPPER_TEETH_END = 19247
EYE_VERTICES = {"Left": (21451, 22221), "Right": (23021, 23791)}
#: MediaPipe's inner lips without the corners, and the jaw's pull that tells the lips apart even next to the corners.
UPPER_INNER_LIP = np.array([191, 80, 81, 82, 13, 312, 311, 310, 415])
LOWER_INNER_LIP = np.array([95, 88, 178, 87, 14, 317, 402, 318, 324])
LIP_DIVIDE_DM = 0.14
#: People in portraits look at the camera; with the published centres they would look 6.5 degrees below it (median of 99).
EYE_DROP_CM = 0.152
TARGET_VERTICES = {SKIN: 6200, SOCKET: 420, TONGUE: 260, GUMS: 420, TEETH_UPPER: 620, TEETH_LOWER: 420}


def ict_name(arkit: str) -> str:
    """ARKit's ``eyeBlinkLeft`` is ICT-FaceKit's ``eyeBlink_L``; jaw and mouth directions keep their names."""
    if arkit in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return arkit
    for side in ("Left", "Right"):
        if arkit.endswith(side):
            return arkit[: -len(side)] + "_" + side[0]
    return arkit


def load(folder: Path) -> dict[str, Array]:
    raw = np.load(folder / "ict_facekit.npz")
    quads = raw["quads"]
    triangles = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]][quads[:, 3] >= 0]])
    distinct = (triangles[:, 0] != triangles[:, 1]) & (triangles[:, 1] != triangles[:, 2])
    triangles = triangles[distinct & (triangles[:, 0] != triangles[:, 2])]
    names = [str(n) for n in raw["expression_names"]]
    expression = raw["expression"].astype(np.float64)

    def curve(arkit: str) -> Array:
        name = ict_name(arkit)
        if name in names:
            return expression[names.index(name)]
        both = [names.index(f"{name}_{side}") for side in "LR"]
        return expression[both].sum(0)

    shapes = {name: curve(name) for name in ARKIT_EXPRESSIONS if name != "tongueOut"}
    gaze = {name: curve(name + "Left") + curve(name + "Right") for name in ("eyeLookUp", "eyeLookDown")}
    # One gaze turns both eyes: to image right the left eye looks out and the right eye looks in.
    gaze["lookRight"] = curve("eyeLookOutLeft") + curve("eyeLookInRight")
    gaze["lookLeft"] = curve("eyeLookInLeft") + curve("eyeLookOutRight")
    return {
        "neutral": raw["neutral"].astype(np.float64),
        "identity": raw["identity"].astype(np.float64),
        "shapes": shapes,
        "gaze": gaze,
        "triangles": triangles,
        "landmarks68": raw["landmarks68"],
    }


def label_parts(neutral: Array, jaw_open: Array) -> Array:
    """Part of every ICT vertex. Tongue and gums are one component: the tongue is what moves with the jaw inside the arch."""
    part = np.full(len(neutral), -1)
    part[:SKIN_END] = SKIN
    part[SKIN_END:SOCKET_END] = SOCKET
    inner = np.arange(14062, GUMS_END)
    x, _, z = neutral[inner].T
    moving = np.linalg.norm(jaw_open[inner], axis=1) > 0.3
    arch = np.clip(1.0 - ((x / 2.0) ** 2 + np.clip((z - 6.0) / 3.4, 0, None) ** 2), -1, 1)
    part[inner] = np.where(moving & (arch > 0), TONGUE, GUMS)
    part[GUMS_END:UPPER_TEETH_END] = TEETH_UPPER
    part[UPPER_TEETH_END:TEETH_END] = TEETH_LOWER
    return part


def importance(neutral: Array, part: Array, landmarks68: Array) -> Array:
    """Weight of a vertex' geometric error: lids and lips count most, the back of the head least."""
    weight = np.ones(len(neutral))
    marks = neutral[landmarks68]
    eyes, lips, nose = cKDTree(marks[36:48]), cKDTree(marks[48:68]), cKDTree(marks[27:36])
    weight += 40.0 * np.exp(-((eyes.query(neutral)[0] / 0.7) ** 2))
    weight += 40.0 * np.exp(-((lips.query(neutral)[0] / 0.8) ** 2))
    weight += 6.0 * np.exp(-((nose.query(neutral)[0] / 1.2) ** 2))
    weight[neutral[:, 2] < 2.0] *= 0.25
    weight[(part == SOCKET) & (weight < 10)] *= 0.3
    return weight


def collapse(shapes: Array, triangles: Array, weight: Array, keep: Array, target: int) -> tuple[Array, Array]:
    """Half-edge collapses by quadric error summed over ``shapes`` [k, v, 3] until ``target`` vertices are left.

    Collapsing onto an existing vertex keeps every basis exact at the vertices that stay. ``keep`` [v] bool are never removed.
    Returns the old indices kept and the new triangles in them.
    """
    count = shapes.shape[1]
    quadric = np.zeros((shapes.shape[0], count, 4, 4))
    corner = shapes[:, triangles]  # [k, f, 3, 3]
    normal = np.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
    double_area = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal /= np.maximum(double_area, 1e-12)
    plane = np.concatenate([normal, -(normal * corner[:, :, 0]).sum(-1, keepdims=True)], -1)
    outer = plane[..., :, None] * plane[..., None, :] * (0.5 * double_area)[..., None]
    for c in range(3):
        for k in range(len(shapes)):
            np.add.at(quadric[k], triangles[:, c], outer[k])
    # Open borders get planes across them, otherwise the neck's rim and the lid slits would melt.
    edges: dict[tuple[int, int], list[int]] = {}
    for f, (a, b, c) in enumerate(triangles):
        for i, j in ((a, b), (b, c), (c, a)):
            edges.setdefault((min(i, j), max(i, j)), []).append(f)
    for (i, j), faces in edges.items():
        if len(faces) == 1:
            for k in range(len(shapes)):
                along = shapes[k, j] - shapes[k, i]
                across = np.cross(along, normal[k, faces[0]])
                length = np.linalg.norm(across)
                if length > 1e-9:
                    across /= length
                    p = np.append(across, -across @ shapes[k, i])
                    quadric[k, [i, j]] += 4.0 * (along @ along) * np.outer(p, p)
    quadric *= weight[None, :, None, None]

    homogeneous = np.concatenate([shapes, np.ones((*shapes.shape[:2], 1))], -1)
    alive = np.ones(count, bool)
    used = np.zeros(count, bool)
    used[triangles] = True
    faces_of = [set() for _ in range(count)]
    face = [tuple(t) for t in triangles.tolist()]
    face_alive = [True] * len(face)
    for f, t in enumerate(face):
        for i in t:
            faces_of[i].add(f)

    def neighbours(i: int) -> set[int]:
        return {j for f in faces_of[i] for j in face[f]} - {i}

    def cost(i: int, j: int) -> float:
        both = quadric[:, i] + quadric[:, j]
        error = np.einsum("ka,kab,kb->k", homogeneous[:, j], both, homogeneous[:, j]).max()
        span = ((shapes[0, i] - shapes[0, j]) ** 2).sum()
        return float(error + 1e-5 * span * weight[i])

    def flips(i: int, j: int) -> bool:
        for f in faces_of[i]:
            t = face[f]
            if j in t:
                continue
            new = [j if x == i else x for x in t]
            before = np.cross(shapes[0, t[1]] - shapes[0, t[0]], shapes[0, t[2]] - shapes[0, t[0]])
            after = np.cross(shapes[0, new[1]] - shapes[0, new[0]], shapes[0, new[2]] - shapes[0, new[0]])
            norms = np.linalg.norm(before) * np.linalg.norm(after)
            if norms < 1e-12 or before @ after < 0.3 * norms:
                return True
        return False

    version = np.zeros(count, int)
    heap: list[tuple[float, int, int, int, int]] = []

    def push(i: int) -> None:
        if keep[i] or not alive[i]:
            return
        near = neighbours(i)
        if near:
            best = min((cost(i, j), j) for j in near)
            heapq.heappush(heap, (best[0], i, best[1], version[i], version[best[1]]))

    for i in np.flatnonzero(used):
        push(int(i))
    left = int(used.sum())
    while left > target and heap:
        _, i, j, vi, vj = heapq.heappop(heap)
        if not alive[i] or not alive[j] or version[i] != vi or version[j] != vj:
            continue
        shared = neighbours(i) & neighbours(j)
        if len(shared) > 2 or flips(i, j):
            continue
        for f in list(faces_of[i]):
            t = face[f]
            if j in t:
                face_alive[f] = False
                for x in t:
                    faces_of[x].discard(f)
            else:
                face[f] = tuple(j if x == i else x for x in t)
                faces_of[j].add(f)
        faces_of[i] = set()
        alive[i] = False
        quadric[:, j] += quadric[:, i]
        left -= 1
        version[j] += 1
        touched = neighbours(j) | {j}
        for x in touched:
            version[x] += x != j
        for x in touched:
            push(x)
    kept = np.flatnonzero(alive & used)
    new_index = np.full(count, -1)
    new_index[kept] = np.arange(len(kept))
    return kept, new_index[np.array([t for t, ok in zip(face, face_alive, strict=True) if ok])]


def fit_sphere(points: Array) -> tuple[Array, float]:
    """Least-squares sphere through [n, 3] -> (centre, radius)."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], 1)
    solution, *_ = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)
    centre = solution[:3]
    return centre, float(np.sqrt(solution[3] + centre @ centre))


def eyeball(centre: Array, radius: float) -> tuple[Array, Array]:
    """A polar cap of a sphere looking along +z: rings at growing angles, the iris at the pole."""
    angles = np.radians([0, 6, 12, 18, 24, 30, 38, 48, 60, 74, 90, 108])
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    rings = [np.stack([np.sin(a) * np.cos(around), np.sin(a) * np.sin(around), np.full(24, np.cos(a))], -1) for a in angles[1:]]
    points = centre + radius * np.concatenate([[[0, 0, 1.0]], *rings])
    faces = [[0, 1 + i, 1 + (i + 1) % 24] for i in range(24)]
    for r in range(len(angles) - 2):
        for i in range(24):
            a, b = 1 + 24 * r + i, 1 + 24 * r + (i + 1) % 24
            faces += [[a, a + 24, b + 24], [a, b + 24, b]]
    return points, np.array(faces)


def build(data: Path, embedding: Path | None) -> dict[str, Array]:
    ict = load(data)
    neutral, shapes = ict["neutral"], ict["shapes"]
    part = label_parts(neutral, shapes["jawOpen"])
    mp_rows = np.loadtxt(data / "mp468_to_ict.csv", delimiter=",", skiprows=1)
    weight = importance(neutral, part, ict["landmarks68"])
    protected = np.zeros(len(neutral), bool)
    protected[ict["landmarks68"]] = True

    posed = [neutral]
    for names in (("jawOpen",), ("eyeBlinkLeft", "eyeBlinkRight"), ("mouthSmileLeft", "mouthSmileRight"), ("mouthPucker",)):
        posed.append(neutral + sum(shapes[n] for n in names))
    posed = np.stack(posed)
    kept_all, triangles_all, offset = [], [], 0
    for label, target in TARGET_VERTICES.items():
        inside = part[ict["triangles"]]
        chosen = ict["triangles"][(inside == label).all(1)]
        if label in (SKIN, SOCKET):
            # Lips continue into the mouth without a gap: border triangles go with the skin.
            chosen = ict["triangles"][(inside.min(1) == label) & (inside.max(1) <= SOCKET)]
        keep = protected.copy()
        if label in (SKIN, SOCKET):
            rim = ict["triangles"][(inside.min(1) == SKIN) & (inside.max(1) == SOCKET)]
            keep[np.unique(rim)] |= part[np.unique(rim)] == SOCKET
        kept, triangles = collapse(posed, chosen, weight, keep, target)
        log.info("part %d: %d -> %d vertices", label, len(np.unique(chosen)), len(kept))
        kept_all.append(kept)
        triangles_all.append(triangles + offset)
        offset += len(kept)
    kept = np.concatenate(kept_all)
    triangles = np.concatenate(triangles_all)
    # Skin and mouth share the rim's vertices: weld equal indices.
    unique, first, inverse = np.unique(kept, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(unique), int)
    rank[order] = np.arange(len(unique))
    kept = unique[order]
    triangles = rank[inverse][triangles]

    # Identity: principal components of the front face under the prior N(0, 1) of the published modes.
    front = (part[kept] == SKIN) & (neutral[kept, 2] > 2.0) & (neutral[kept, 1] > -8.5)
    modes = ict["identity"][:, kept]
    gram = np.einsum("avc,bvc->ab", modes[:, front], modes[:, front])
    values, vectors = np.linalg.eigh(gram)
    top = np.argsort(values)[::-1][:IDENTITY_SIZE]
    log.info("identity: %.4f of the variance in %d components", values[top].sum() / values.sum(), IDENTITY_SIZE)
    identity = np.einsum("ba,bvc->avc", vectors[:, top], modes)

    mean = neutral[kept].copy()
    expression = np.stack([shapes[n][kept] if n in shapes else np.zeros_like(mean) for n in ARKIT_EXPRESSIONS])
    # Curves of the mouth move lower teeth and tongue with the jaw only; stray sub-millimetre noise is dropped.
    inner = part[kept] >= TONGUE
    for row, name in enumerate(ARKIT_EXPRESSIONS):
        if not name.startswith("jaw"):
            expression[row, inner] = 0.0
    # At 1 the published blink leaves a slit; a closed eye is closed.
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        expression[ARKIT_EXPRESSIONS.index(name)] *= 1.08
    tongue = part[kept] == TONGUE
    forward = np.clip((mean[tongue, 2] - 6.0) / 3.5, 0, 1)[:, None] ** 1.5
    expression[ARKIT_EXPRESSIONS.index("tongueOut"), tongue] = forward * np.array([0, -0.7, 3.2])
    gaze = np.stack([ict["gaze"][n][kept] for n in ("eyeLookUp", "eyeLookDown", "lookRight", "lookLeft")])
    gaze[:, inner] = 0.0
    parts = part[kept]
    # Seen from the front in speech: less of the upper teeth, more of the lower ones, and a tongue that does not sink with the jaw.
    mean[parts == TEETH_UPPER, 1] += 0.24
    mean[parts == TEETH_LOWER, 1] += 0.5
    jaw_open = ARKIT_EXPRESSIONS.index("jawOpen")
    expression[jaw_open, parts == TONGUE] *= 0.9
    mean[parts == TONGUE] += (0.0, 0.15, 0.9)

    eye_centre, eye_radius = [], []
    for label, side in ((EYE_LEFT, "Left"), (EYE_RIGHT, "Right")):
        a, b = EYE_VERTICES[side]
        ball = neutral[a:b]
        centre, radius = fit_sphere(ball[ball[:, 2] > ball[:, 2].mean()])
        centre = centre - (0.0, EYE_DROP_CM, 0.0)
        points, faces = eyeball(centre, radius)
        log.info("eye %s: centre %s radius %.3f cm", side, centre.round(3), radius)
        moved = ict["identity"][:, a:b].mean(1)  # the eye moves as a whole
        moved = np.einsum("ba,bc->ac", vectors[:, top], moved)[:, None].repeat(len(points), 1)
        triangles = np.concatenate([triangles, faces + len(mean)])
        mean = np.concatenate([mean, points])
        identity = np.concatenate([identity, moved], 1)
        expression = np.concatenate([expression, np.zeros((len(expression), len(points), 3))], 1)
        gaze = np.concatenate([gaze, np.zeros((4, len(points), 3))], 1)
        parts = np.concatenate([parts, np.full(len(points), label)])
        eye_centre.append(centre)
        eye_radius.append(radius)

    face_part = parts[triangles].min(1)
    for label, side in ((EYE_LEFT, 0), (EYE_RIGHT, 1)):
        ball = parts == label
        log.info("eye %d vertices %d", side, ball.sum())

    # Origin: centroid of the front face, so that poses and cameras mean what they mean for the BFM face (spec 3.1).
    origin = mean[: len(front)][front].mean(0) * np.array([0, 1, 1])
    mean = (mean - origin) * CM_TO_DM
    kept_of = {int(v): i for i, v in enumerate(kept)}
    landmarks68 = np.array([kept_of[int(v)] for v in ict["landmarks68"]])

    # Depth below the plane through both ears' lobes and just under the chin: what turns with the torso.
    ear = neutral[ict["landmarks68"]][[1, 15]] + (0, -0.6, -2.0)
    chin = neutral[ict["landmarks68"]][8] + (0, -1.2, 0.0)
    normal = np.cross(ear[1] - chin, ear[0] - chin)
    normal /= np.linalg.norm(normal) * np.sign(normal[1])
    below = -((mean / CM_TO_DM + origin) - chin) @ normal
    # The plane rises behind the ears: the skull's back lies under it and is head all the same, down to the nape.
    height = mean[:, 1] / CM_TO_DM + origin[1]
    nape = np.clip((-1.5 - height) / 3.0, 0.0, 1.0)
    neck = np.minimum(np.clip((below - 0.8) / 6.0, 0.0, 1.0), nape) * (parts == SKIN)

    if embedding is not None:
        fitted = np.load(embedding)
        landmark_triangle, landmark_barycentric = fitted["triangle"], fitted["barycentric"]
    else:
        landmark_triangle, landmark_barycentric = initial_embedding(mp_rows, neutral, kept, mean, triangles, parts, origin)
    opening = expression[ARKIT_EXPRESSIONS.index("jawOpen"), :, 1] * CM_TO_DM
    keep_lips_apart(landmark_triangle, landmark_barycentric, mean, triangles, parts, opening)

    skin_faces = face_part == SKIN
    lo, hi = mean[parts == SKIN].min(0), mean[parts == SKIN].max(0)
    return {
        "mean": mean.astype(np.float32),
        "identity": (identity * CM_TO_DM).astype(np.float16),
        "expression": (expression * CM_TO_DM).astype(np.float16),
        "gaze": (gaze * CM_TO_DM).astype(np.float16),
        "triangles": triangles.astype(np.int32),
        "part": parts.astype(np.uint8),
        "neck": neck.astype(np.float16),
        "ncc_range": np.stack([lo, hi]).astype(np.float32),
        "pncc_triangles": skin_faces,
        "landmarks68": landmarks68.astype(np.int32),
        "landmark_triangle": landmark_triangle.astype(np.int32),
        "landmark_barycentric": landmark_barycentric.astype(np.float32),
        "eye_centre": ((np.array(eye_centre) - origin) * CM_TO_DM).astype(np.float32),
        "eye_radius": (np.array(eye_radius) * CM_TO_DM).astype(np.float32),
    }


def keep_lips_apart(
    landmark_triangle: Array, landmark_barycentric: Array, mean: Array, triangles: Array, parts: Array, jaw_opening: Array
) -> None:
    """Put each landmark of the inner lips on its own lip, in place.

    The model's lips touch, so the surface nearest to a landmark of the upper lip may be the lower one, which the jaw takes away.

    Args:
        jaw_opening: [v] vertical displacement in decimetres when the jaw opens fully; it tells the lips apart.
    """
    corner = mean[triangles]
    centre, lowered = corner.mean(1), jaw_opening[triangles].mean(1)
    lips = np.concatenate([UPPER_INNER_LIP, LOWER_INNER_LIP])
    points = (landmark_barycentric[lips, :, None] * corner[landmark_triangle[lips]]).sum(1)
    skin = (parts[triangles] <= SOCKET).all(1) & (parts[triangles] == SKIN).any(1)
    mouth = skin & (np.abs(centre - points.mean(0)) < (0.35, 0.15, 0.15)).all(1)
    for lip, own in ((UPPER_INNER_LIP, lowered > -LIP_DIVIDE_DM), (LOWER_INNER_LIP, lowered < -LIP_DIVIDE_DM)):
        points = (landmark_barycentric[lip, :, None] * corner[landmark_triangle[lip]]).sum(1)
        landmark_triangle[lip], landmark_barycentric[lip] = nearest_on_surface(points, mean, triangles, np.flatnonzero(mouth & own))


def initial_embedding(
    mp_rows: Array, neutral: Array, kept: Array, mean: Array, triangles: Array, parts: Array, origin: Array
) -> tuple[Array, Array]:
    """MediaPipe's 468 points on our surface: the nearest point of a skin triangle to the tabulated ICT vertex."""
    points = (neutral[mp_rows[:, 1].astype(int)] - origin) * CM_TO_DM
    return nearest_on_surface(points, mean, triangles, np.flatnonzero((parts[triangles] <= SOCKET).all(1)))


def nearest_on_surface(points: Array, vertices: Array, triangles: Array, candidates: Array) -> tuple[Array, Array]:
    """Nearest surface point for each of [n, 3] -> (triangle index [n], barycentric [n, 3])."""
    corner = vertices[triangles[candidates]]
    tree = cKDTree(corner.mean(1))
    _, near = tree.query(points, k=48)
    a, b, c = (corner[near][:, :, i] for i in range(3))
    best = np.full(len(points), np.inf)
    found = np.zeros(len(points), int)
    weights = np.zeros((len(points), 3))
    ab, ac, ap = b - a, c - a, points[:, None] - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    scale = np.maximum(d00 * d11 - d01**2, 1e-18)
    v, w = (d11 * d20 - d01 * d21) / scale, (d00 * d21 - d01 * d20) / scale
    bary = np.stack([1 - v - w, v, w], -1)
    bary = np.clip(bary, 0, None)
    bary /= bary.sum(-1, keepdims=True)
    distance = np.linalg.norm((bary[..., None] * np.stack([a, b, c], 2)).sum(2) - points[:, None], axis=-1)
    pick = distance.argmin(1)
    rows = np.arange(len(points))
    best = distance[rows, pick]
    found = candidates[near[rows, pick]]
    weights = bary[rows, pick]
    log.info("landmark embedding: largest distance to the surface %.4f dm", best.max())
    return found, weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--embedding", type=Path)
    parser.add_argument("--out", type=Path, default=Path("src/triportrait/face/data/open_head.safetensors"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = build(options.data, options.embedding)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in model.items()}
    save_network(options.out, tensors, kind=KIND, config={}, metadata={"licence": "MIT, see NOTICE"})
    log.info(
        "%s: %d vertices, %d triangles, %.1f MB", options.out, len(model["mean"]), len(model["triangles"]), options.out.stat().st_size / 1e6
    )


if __name__ == "__main__":
    main()
