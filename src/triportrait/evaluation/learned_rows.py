"""The learned metrics of one avatar's pictures, with the reason for each that cannot be had; FID is pooled over clips."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.evaluation import identity, learned
from triportrait.files import make_folder
from triportrait.types import Array

if TYPE_CHECKING:
    from triportrait.evaluation.metric_weights import MetricNetworks


POOLED = "measured over all clips together, see the mean"
TOO_FEW = "fewer than two pictures on a side"


def perceptual_rows(
    networks: MetricNetworks, made: Sequence[Array], real: Sequence[Array], counted: Array | None
) -> tuple[dict[str, float], dict[str, str]]:
    """``lpips_alex`` and ``lpips_vgg`` of pairs of pictures, and reasons."""
    values, reasons = {}, {}
    for key, weights, name in (("lpips_alex", "alexnet", "lpips_alex"), ("lpips_vgg", "vgg16", "lpips_vgg")):
        network = getattr(networks, name)
        values[key] = math.nan if network is None else learned.lpips(network, made, real, counted)
        reasons[key] = networks.missing.get(weights, "no pair of pictures")
    return values, reasons


def likeness(
    networks: MetricNetworks, source: tuple[Array, Array], made: Sequence[Array], landmarks: Array, found: Array
) -> tuple[dict[str, float], dict[str, str]]:
    """Of the source (picture, landmarks) and the made faces: ``csim``, mean cosine of ArcFace's embeddings, and ``face_distance``, mean
    distance of dlib's."""
    network, (embed, why) = networks.arcface, identity.find_face_embedder()
    no_face = "no made picture in which a face was found"
    reasons = {"csim": networks.missing.get("arcface", no_face), "face_distance": why or no_face}
    values = {"csim": math.nan, "face_distance": math.nan}
    seen = np.flatnonzero(found)
    pictures = [made[int(i)] for i in seen]
    if network is not None and len(seen):
        own = learned.identity_embeddings(network, [source[0]], source[1][None])[0]
        values["csim"] = float((learned.identity_embeddings(network, pictures, landmarks[seen]) @ own).mean())
    if embed is not None and len(seen):
        own = embed([source[0]], source[1][None])[0]
        values["face_distance"] = float(identity.distances(embed(pictures, landmarks[seen]), own).mean())
    return values, reasons


def likeness_by_frame(
    made: Sequence[Array], made_landmarks: Array, real: Sequence[Array], real_landmarks: Array, both: Array
) -> tuple[dict[str, float], dict[str, str]]:
    """``face_distance_real``: mean distance of dlib's embeddings of the made and the real face of the same moment, rows ``both`` [t]."""
    embed, why = identity.find_face_embedder()
    reasons = {"face_distance_real": why or "no frame in which a face was found in both pictures"}
    seen = np.flatnonzero(both)
    if embed is None or not len(seen):
        return {"face_distance_real": math.nan}, reasons
    rows = [embed([pictures[int(i)] for i in seen], points[seen]) for pictures, points in ((made, made_landmarks), (real, real_landmarks))]
    return {"face_distance_real": float(identity.distances(*rows).mean())}, reasons


def keep_features(networks: MetricNetworks, out: Path, item: str, name: str, pictures: Sequence[Array]) -> tuple[float, str]:
    """Write Inception's features of one clip beside the report, for :func:`pooled_fid`; (NaN, why the clip has no FID)."""
    network = networks.inception
    if network is None:
        return math.nan, networks.missing["inception"]
    from triportrait.files import atomic_file

    path = _features_path(out, item, name)
    make_folder(path.parent)
    with atomic_file(path) as part, part.open("wb") as file:
        np.save(file, learned.inception_features(network, pictures))
    return math.nan, POOLED


def pooled_fid(out: Path, report: Mapping[str, Any]) -> None:
    """Put the FID of each avatar into the report's means: all its pictures against all real ones of the shared clips."""
    names = list(report["mean"])
    items = [
        item
        for item, clip in report["clips"].items()
        if clip["status"] == "ok" and all(clip["avatars"].get(name, {}).get("status") == "ok" for name in names)
    ]
    for name in names:
        mean = report["mean"][name]
        mean["metrics"]["fid"] = None
        paths = [(_features_path(out, item, name), _features_path(out, item, "real")) for item in items]
        if not paths or not all(made.is_file() and real.is_file() for made, real in paths):
            reasons = [report["clips"][item]["avatars"][name]["reasons"].get("fid") for item in items]
            mean["reasons"]["fid"] = next((text for text in reasons if text and text != POOLED), "no clip gave a value")
            continue
        made, real = (np.concatenate([np.load(path, allow_pickle=False) for path in side]) for side in zip(*paths, strict=True))
        value = learned.frechet_distance(made, real)
        mean["fid_pictures"] = [len(made), len(real)]
        if math.isfinite(value):
            mean["metrics"]["fid"] = value
            mean["reasons"].pop("fid", None)
        else:
            mean["reasons"]["fid"] = TOO_FEW


def _features_path(out: Path, item: str, name: str) -> Path:
    safe = [re.sub(r"[^\w.+-]", "_", text) for text in (item, name)]
    return out.with_name(f"{out.stem}_features") / f"{safe[0]}__{safe[1]}.npy"
