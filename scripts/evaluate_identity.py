"""Does a turned head stay the same person? Distances of dlib's face embedding, photo to turned view, beside those between people.

    pip install 'triportrait[identity]'
    python scripts/evaluate_identity.py --portraits ../shared/data/portraits --avatar oneshot,lifted --out identity.json

Takes ``--count`` held-out portraits (``index.csv`` says which are), turns each by 20 degrees of yaw and 12 of pitch to either side, and
compares at 256 px. Everything is measured the same way: one tracker, one alignment. For videos: ``triportrait evaluate reenact``.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triportrait import drivers, pipeline
from triportrait.errors import TriPortraitError
from triportrait.evaluation.identity import SAME_PERSON, centred_cosines, distances, find_face_embedder
from triportrait.evaluation.reenact import shrink
from triportrait.files import atomic_file
from triportrait.media.images import read_image

Array = np.ndarray
#: Pitch and yaw in degrees.
TURNS_DEG = ((0, -20), (0, 20), (-12, 0), (12, 0))
_SIDE_PX = 256


def held_out(folder: Path, count: int, seed: int) -> list[Path]:
    """``count`` random portraits of the split ``val``."""
    with (folder / "index.csv").open(encoding="utf-8-sig", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["split"] == "val"]
    return [folder / names[i] for i in np.random.default_rng(seed).permutation(len(names))[:count]]


def summary(values: Array) -> dict[str, float | int]:
    """Mean, median, extremes and the share that dlib's rule calls one person."""
    values = np.asarray(values, np.float64).reshape(-1)
    parts = {"mean": values.mean(), "median": np.median(values), "least": values.min(), "most": values.max()}
    return {name: round(float(value), 4) for name, value in parts.items()} | {
        "same_person": round(float((values < SAME_PERSON).mean()), 4),
        "count": len(values),
    }


def measure(paths: list[Path], avatars: list[str]) -> dict[str, Any]:
    """The report of all portraits."""
    embed, why = find_face_embedder()
    if embed is None:
        raise SystemExit(f"the likeness of faces {why}")
    tracker = drivers.default_tracker()

    def embedding(picture: Array) -> Array | None:
        faces = tracker.detect(picture)
        if not faces:
            return None
        scale = _SIDE_PX / len(picture)
        return embed([shrink(picture, _SIDE_PX)], faces[0].landmarks[None, :, :2] * scale)[0]

    photos: dict[str, Array] = {}
    views: dict[str, dict[str, list[Array | None]]] = {name: {} for name in avatars}
    models = {name: pipeline.make_model(name) for name in avatars}
    for path in paths:
        try:
            portrait = pipeline.prepare(read_image(path))
            own = embedding(portrait.image)
        except TriPortraitError as error:
            logging.warning("%s is left out: %s", path.name, error)
            continue
        if own is None:
            logging.warning("%s is left out: no face in its crop", path.name)
            continue
        photos[path.name] = own
        for name, model in models.items():
            state, rows = model.prepare(portrait), []
            for turn in TURNS_DEG:
                rotation = portrait.motion.rotation_rad + np.radians([*turn, 0]).astype(np.float32)
                rows.append(embedding(model.step(state, replace(portrait.motion, rotation_rad=rotation, landmarks=None))[0]))
            views[name][path.name] = rows
        logging.info("%s", path.name)

    people = np.stack(list(photos.values()))
    centre = people.mean(0)
    first, second = np.triu_indices(len(people), 1)
    report: dict[str, Any] = {
        "portraits": len(people),
        "different_people": {
            "distance": summary(distances(people[first], people[second])),
            "centred_cosine": round(float(centred_cosines(people[first], people[second], centre).mean()), 4),
        },
        "avatars": {},
    }
    for name in avatars:
        pairs = [(row, photos[file], turn) for file, rows in views[name].items() for row, turn in zip(rows, TURNS_DEG, strict=True)]
        made = [pair for pair in pairs if pair[0] is not None]
        apart = np.array([distances(row, photo) for row, photo, _ in made])
        own = [(people[distances(people, row).argmin()] == photo).all() for row, photo, _ in made]
        alike = [centred_cosines(row, photo, centre) for row, photo, _ in made]
        by_turn = {turn: apart[[pair[2] == turn for pair in made]].mean() for turn in TURNS_DEG}
        report["avatars"][name] = {
            "faces_found": round(len(made) / len(pairs), 4),
            "distance": summary(apart),
            "distance_by_turn": {f"pitch {p:+d} yaw {y:+d}": round(float(value), 4) for (p, y), value in by_turn.items()},
            "centred_cosine": round(float(np.mean(alike)), 4),
            "nearest_is_own": round(float(np.mean(own)), 4),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with index.csv (columns file and split)")
    parser.add_argument("--avatar", default="oneshot,lifted")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True, help="JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    report = measure(held_out(options.portraits, options.count, options.seed), options.avatar.split(","))
    report = {"seed": options.seed, "side_px": _SIDE_PX, **report}
    with atomic_file(options.out) as part:
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    logging.info("%s", json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
