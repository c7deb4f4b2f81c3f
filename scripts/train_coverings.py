"""Train the network that tells a covered mouth: portraits as they are, and the same with coverings painted on. Seeded, minutes.

    python scripts/train_coverings.py --portraits ../shared/data/portraits --out src/triportrait/face/data/coverings.safetensors

Coverings are masks (plain, pleated, patterned, skin-coloured), scarves, microphones, cups, boards and hands. Landmarks are found anew in
the painted picture, since it is those that the program will have. Three persons of ten are kept for the test that is printed; with
``--all`` they are trained with, too.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from triportrait.drivers import default_tracker
from triportrait.errors import NoFaceFound
from triportrait.face.coverings import KIND, CoverNetwork, lower_face
from triportrait.face.portrait import crop_box
from triportrait.face.tracker import choose_face
from triportrait.geometry.crops import cut
from triportrait.media.images import read_image
from triportrait.nn.model_files import save_network

Array = np.ndarray
SIZE = 512
KINDS = (
    "mask",
    "mask",
    "skin mask",
    "patterned mask",
    "patterned mask",
    "scarf",
    "microphone",
    "microphone",
    "cup",
    "board",
    "hand",
    "hand",
)
COLOURS = (
    (255, 255, 255),
    (240, 240, 238),
    (20, 20, 22),
    (40, 42, 48),
    (150, 190, 220),
    (120, 170, 215),
    (90, 130, 190),
    (200, 150, 165),
    (60, 90, 70),
    (120, 120, 120),
    (180, 40, 45),
    (230, 200, 90),
    (90, 60, 110),
)
FOAM = ((25, 25, 28), (45, 45, 48), (95, 95, 98), (150, 150, 150), (30, 30, 120), (150, 25, 25))


def polygon(points: Sequence[Array], smooth: bool = False) -> Array:
    """Area float32 [s, s] within points, or within a Catmull-Rom curve through them."""
    at = np.asarray(points, float)
    if smooth:
        t = np.linspace(0, len(at), 200, endpoint=False)
        i, f = t.astype(int), (t % 1)[:, None]
        a, b, c, d = (at[(i + k) % len(at)] for k in (-1, 0, 1, 2))
        at = 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.round(at * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def cloth(rng: np.random.Generator, kind: str, colour: Array) -> Array:
    """A pattern [s, s, 3]."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    angle, step, other = rng.uniform(0, np.pi), rng.uniform(8, 40), rng.uniform(10, 245, 3)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == "plain":
        return np.broadcast_to(colour, (SIZE, SIZE, 3))
    if kind == "pleats":
        return colour * (1 - 0.14 * rng.uniform(0.5, 1.5) * np.exp(-(((y % rng.uniform(18, 34)) / 3) ** 2)))[..., None]
    if kind in ("stripes", "dots", "checks"):
        second = {
            "stripes": np.sin(u / step * 2 * np.pi) > 0,
            "dots": (u % step - step / 2) ** 2 + (v % step - step / 2) ** 2 < (0.28 * step) ** 2,
            "checks": (u // step + v // step) % 2 > 0,
        }[kind]
        return np.where(second[..., None], other, colour)
    noise = cv2.GaussianBlur(rng.normal(size=(SIZE // 8, SIZE // 8, 3)).astype(np.float32), (0, 0), rng.uniform(1, 3))
    return colour + cv2.resize(noise / noise.std(), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) * rng.uniform(15, 50)


def laid_over(image: Array, mask: Array, colours: Array, middle: Array, reach: float, rng: np.random.Generator) -> Array:
    """A thing [s, s, 3] in the light of the picture, on it, with its shadow."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    angle, (cx, cy) = rng.uniform(0, 2 * np.pi), middle
    light = 1 + rng.uniform(0, 0.3) * ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / reach
    light *= 1.05 - rng.uniform(0, 0.35) * (np.hypot(x - cx, y - cy) / reach) ** 2
    around = cv2.GaussianBlur(image.astype(np.float32).mean(-1), (0, 0), 25)
    light *= (around / max(float(around[mask > 0.5].mean()) if (mask > 0.5).any() else 128.0, 1.0)) ** rng.uniform(0, 0.6)
    folds = cv2.resize(cv2.GaussianBlur(rng.normal(size=(SIZE // 8, SIZE // 8)).astype(np.float32), (0, 0), 1.5), (SIZE, SIZE))
    light *= 1 + rng.uniform(0, 0.06) * folds / folds.std()
    thing = colours * np.clip(light, 0.3, 1.6)[..., None] + rng.normal(size=image.shape) * rng.uniform(0, 4)
    thing = cv2.GaussianBlur(np.clip(thing, 0, 255).astype(np.float32), (0, 0), rng.uniform(0.4, 1.2))
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 1.5))[..., None]
    shadow = cv2.GaussianBlur(soft, (0, 0), 6)[..., None] * rng.uniform(0, 0.35) * (1 - soft)
    return np.clip(image * (1 - shadow) * (1 - soft) + thing * soft, 0, 255).astype(np.uint8)


def covered(image: Array, landmarks: Array, kind: str, rng: np.random.Generator) -> Array:
    """A crop uint8 [s, s, 3] with something painted over the mouth of the face with these landmarks."""
    at = landmarks[:, :2]
    x, y = at[[10, 151, 9, 108, 337, 50, 280]].astype(int).clip(0, SIZE - 1).T
    skin = np.median(cv2.GaussianBlur(image, (0, 0), 2.0)[y, x].astype(float), axis=0)
    mouth, tall, wide = (float(np.linalg.norm(at[a] - at[b])) for a, b in ((61, 291), (10, 152), (234, 454)))
    middle, up = 0.5 * (at[13] + at[14]), (at[10] - at[152]) / tall
    right = np.array([-up[1], up[0]])
    colour = np.array(COLOURS[rng.integers(len(COLOURS))], float) + rng.normal(size=3) * 12
    if kind.startswith("skin") or rng.random() < 0.12:
        colour = skin * rng.uniform(0.85, 1.1) + rng.normal(size=3) * 5
    if kind.endswith("mask"):
        pattern = rng.choice(["stripes", "dots", "checks", "cloth"] if kind.startswith("patterned") else ["plain", "pleats", "cloth"])
        top, chin = at[rng.choice([6, 197, 195, 5])] + rng.normal(size=2) * 2, at[152] - up * tall * rng.uniform(0.0, 0.07)
        sides = [at[rng.choice(choice)] for choice in ((454, 323, 447), (397, 365, 288), (172, 136, 58), (234, 93, 227))]
        sides[1:3] = (point + (point - middle) * rng.uniform(0, 0.06) for point in sides[1:3])
        between = [0.5 * (top + side) + up * tall * rng.uniform(-0.03, 0.04) for side in (sides[0], sides[3])]
        mask = polygon([top, between[0], *sides[:2], chin, *sides[2:], between[1]], rng.random() < 0.7)
        return laid_over(image, mask, cloth(rng, pattern, colour), middle, 0.5 * wide, rng)
    if kind == "scarf":
        top = at[rng.choice([2, 164, 4, 5])] + up * tall * rng.uniform(-0.01, 0.03)
        upper = [top + right * wide * side + up * tall * rng.uniform(-0.02, 0.06) for side in (0.9, 0.4, 0.0, -0.4, -0.9)]
        mask = polygon([*upper, *(at[152] + right * wide * side - up * tall * 0.5 for side in (-0.9, 0.9))])
        return laid_over(image, mask, cloth(rng, rng.choice(["stripes", "checks", "cloth", "plain"]), colour), middle, 0.6 * wide, rng)
    if kind == "microphone":
        radius = mouth * rng.uniform(0.55, 0.95)
        cx, cy = centre = middle - up * mouth * rng.uniform(-0.1, 0.3) + right * mouth * rng.uniform(-0.12, 0.12)
        foam, tilt, half = np.array(FOAM[rng.integers(len(FOAM))], float), rng.uniform(-0.6, 0.6), radius * rng.uniform(0.35, 0.6)
        down, across = np.array([np.sin(tilt), np.cos(tilt)]), np.array([np.cos(tilt), -np.sin(tilt)]) * half
        handle = polygon([centre + across, centre - across, centre - 0.8 * across + down * SIZE, centre + 0.8 * across + down * SIZE])
        image = laid_over(image, handle, np.broadcast_to(0.7 * foam, image.shape), centre, 0.3 * SIZE, rng)
        y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
        ball = np.clip(radius - np.hypot(x - cx, (y - cy) / rng.uniform(0.9, 1.3)) + 0.5, 0, 1).astype(np.float32)
        step, grid = rng.uniform(3, 7), rng.random() < 0.6
        wires = ((x + y) % step < 0.35 * step) | ((x - y) % step < 0.35 * step)
        colours = np.where((wires & grid)[..., None], 1.5 * foam, foam)
        gloss = np.exp(-(((x - cx + 0.35 * radius) ** 2 + (y - cy + 0.4 * radius) ** 2) / (0.35 * radius) ** 2))
        return laid_over(image, ball, colours + gloss[..., None] * rng.uniform(10, 90), centre, radius, rng)
    if kind in ("cup", "board"):
        big = 1.6 if kind == "board" else 1.0
        half, top = mouth * rng.uniform(0.6, 1.1) * big, middle + up * mouth * rng.uniform(0.25, 0.6)
        tilt, narrow = rng.uniform(-0.2, 0.2), 1.0 if kind == "board" else rng.uniform(0.75, 1.0)
        down = (right * np.sin(tilt) - up * np.cos(tilt)) * mouth * rng.uniform(1.3, 2.2) * big
        across = np.array([down[1], -down[0]]) / np.linalg.norm(down) * half
        mask = polygon([top + across, top - across, top - across * narrow + down, top + across * narrow + down])
        return laid_over(image, mask, cloth(rng, rng.choice(["plain", "cloth", "stripes"]), colour), middle, half, rng)
    colour = skin * rng.uniform(0.85, 1.12) + rng.normal(size=3) * 4
    count, thick, tilt = rng.integers(3, 5), mouth * rng.uniform(0.26, 0.36), rng.uniform(-0.5, 0.5)
    along = (right * np.cos(tilt) + up * np.sin(tilt)) * rng.choice([-1, 1])
    across = np.array([-along[1], along[0]])
    palm = middle - along * mouth * rng.uniform(0.9, 1.3)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    for k in range(count):
        aside = across * thick * 1.75 * ((count - 1) / 2 - k)
        first, last = palm + 1.1 * aside - along * wide * 0.5, middle + aside + along * mouth * rng.uniform(0.55, 1.0)
        length = float(np.linalg.norm(last - first))
        way = (last - first) / length
        u = np.clip((x - first[0]) * way[0] + (y - first[1]) * way[1], 0, length)
        distance, radius = np.hypot(x - first[0] - u * way[0], y - first[1] - u * way[1]), thick * (1 - 0.12 * u / length)
        round_ = 0.72 + 0.33 * np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1)) + 0.05 * np.sin(u / length * 9)
        finger = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
        image = laid_over(image, finger, colour * round_[..., None], middle, 0.5 * wide, rng)
    corners = [palm + side * across * thick * count - along * wide * back for side, back in ((1, 0.25), (-1, 0.25), (-1, 0.7), (1, 0.7))]
    return laid_over(image, polygon(corners, True), np.broadcast_to(colour, image.shape), palm, 0.5 * wide, rng)


def found(picture: Array) -> tuple[Array, Array]:
    """The crop of the largest face of a picture, and its landmarks [478, 3]."""
    face = choose_face(default_tracker().detect(picture), None, "the picture")
    left, top, side = box = crop_box(face, picture.shape[:2], 2.3)
    landmarks = face.landmarks.copy()
    landmarks[:, :2] = (landmarks[:, :2] - (left, top)) * (SIZE / side)
    return cut(picture, box, SIZE), landmarks


def views(image: Array, landmarks: Array, rng: np.random.Generator) -> Array:
    """The lower face thrice, twice with landmarks a little beside the truth: [3, 3, h, w]."""
    result = [lower_face(image, landmarks)]
    for _ in range(2):
        points = landmarks[:, :2] + rng.normal(size=2) * 4
        turn, middle = rng.normal() * 0.06, points.mean(0)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        result.append(lower_face(image, (points - middle) @ matrix.T * rng.uniform(0.92, 1.08) + middle))
    return np.stack(result)


def train(pictures: Array, is_covered: Array, epochs: int) -> CoverNetwork:
    """A network for lower faces [n, 3, h, w] of which some are covered [n], both kinds seen equally often."""
    torch.manual_seed(0)
    network, x, y = CoverNetwork(), torch.from_numpy(pictures), torch.from_numpy(is_covered.astype(np.float32))
    weight, batch = torch.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y.mean())), 64
    steps = epochs * len(x) // batch
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps + 1)
    for step in range(steps):
        chosen = torch.multinomial(weight, batch)
        seen = x[chosen].flip(-1) if step % 2 else x[chosen]
        seen = torch.where(torch.rand(batch, 1, 1, 1) < 0.12, seen.mean(1, keepdim=True), seen)
        blurred = nn.functional.avg_pool2d(nn.functional.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1)
        seen = torch.where(torch.rand(batch, 1, 1, 1) < 0.15, blurred, seen)
        seen = seen * (1 + 0.15 * torch.randn(batch, 1, 1, 1)) + 0.1 * torch.randn(batch, 3, 1, 1) + 0.15 * torch.randn(batch, 1, 1, 1)
        seen = seen + 0.04 * torch.randn_like(seen) * torch.rand(batch, 1, 1, 1)
        loss = nn.functional.binary_cross_entropy_with_logits(network(seen), 0.98 * y[chosen] + 0.01)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    with (options.portraits / "index.csv").open(encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    random.Random(7).shuffle(names)
    samples, kinds, people = [], [], []
    for person, name in enumerate(names[: options.people]):
        rng = np.random.default_rng([person, 0])
        kind = KINDS[rng.integers(len(KINDS))]
        try:
            bare = found(read_image(options.portraits / name))
            pairs = [("bare", bare), (kind, found(covered(*bare, kind, rng)))]
        except NoFaceFound:
            continue
        for label, pair in pairs:
            samples.append(views(*pair, rng))
            kinds.append(label)
            people.append(person)
    samples, kinds, held = np.stack(samples), np.array(kinds), np.array(people) % 10 < 3
    used = np.ones_like(held) if options.all else ~held
    truth = np.repeat(kinds[used] != "bare", samples.shape[1])
    network = train(samples[used].reshape(-1, *samples.shape[2:]), truth, options.epochs)
    with torch.inference_mode():
        logits = network(torch.from_numpy(samples[:, 0])).numpy()
    for kind in sorted(set(kinds)):
        own = logits[(kinds == kind) & held]
        print(f"{kind}: {len(own)} of unseen people, {(own > 2).mean():.1%} called covered" if not options.all else f"{kind}: trained with")
    save_network(options.out, network, kind=KIND, config={})


if __name__ == "__main__":
    main()
