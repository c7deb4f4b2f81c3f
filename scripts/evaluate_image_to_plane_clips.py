"""An image-to-plane network against real frames: ``python scripts/evaluate_image_to_plane_clips.py --clips ../shared/data/clips``.

The first frame of each clip is the source; frames whose head has turned by 5 degrees or more are drawn at 128 px at their fitted pose and
compared inside the face's hull. Rows of the result: the source as it is; carried by its own depth, expression kept; the lifted avatar,
expression kept; the network, expression kept; the network with samples moved by the mesh's expression; the lifted avatar in full.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.oneshot.guide_plain import expression_offsets
from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane
from triportrait.avatar.oneshot.volume import fill_smoothly
from triportrait.drivers import default_head, default_tracker
from triportrait.geometry.crops import cut
from triportrait.geometry.masks import face_hull
from triportrait.media.video import VideoReader
from triportrait.reenactment import motion_of_frames
from triportrait.synth.lifted_views import lifted_views, padded_portrait, shrink
from triportrait.training.oneshot.losses import draw
from triportrait.training.oneshot.measure import warp_by_guide
from triportrait.training.oneshot.recipe import RECIPES
from triportrait.training.oneshot.views import ViewSet, collate
from triportrait.types import RenderedHead

Array = np.ndarray
SIZE_PX = 128
CROP_PX = 512
ROWS = ("copy", "warp", "lifted, still", "network, still", "network, moved", "lifted")


def real_crop(frame: Array, box: tuple[float, float, float]) -> Array:
    """The portrait's crop of a frame at 128 px, float [s, s, 3]; repeated pixels beyond the frame."""
    image = cut(frame, box, CROP_PX)
    factor = CROP_PX // SIZE_PX
    return image.reshape(SIZE_PX, factor, SIZE_PX, factor, 3).mean((1, 3)) / 255


def plain(rgb: torch.Tensor | Array, alpha: torch.Tensor | Array) -> Array:
    """Premultiplied [3, s, s] and [1, s, s] over grey: [s, s, 3]."""
    return np.asarray(rgb + 0.5 * (1 - alpha)).transpose(1, 2, 0)


def layer(head: RenderedHead) -> Array:
    small = shrink(head, SIZE_PX)
    return plain(small.rgb.transpose(2, 0, 1), small.alpha[None])


@torch.no_grad()
def judge_clip(clip: Path, weights: Path | None, every: int) -> list[tuple[float, list[float]]]:
    """Rotation in degrees and the PSNR of all rows, for each frame that counts."""
    model, head, slab = load_image_to_plane(weights), default_head(), RECIPES["compact"]().slab
    with VideoReader(clip) as reader:
        frames = [frame for index, (_, frame) in enumerate(reader.frames(25.0)) if index % every == 0]
    portrait = padded_portrait(frames[0], default_tracker(), head, CROP_PX)
    motion = motion_of_frames(portrait, frames, 25.0 / every)
    avatar = LiftedAvatar(head)
    state = avatar.prepare(portrait)
    own = ViewSet.of([lifted_views(portrait, avatar, [], clip.stem)])
    batch = collate(own, torch.tensor([0]), torch.tensor([[0]]), model.config.photo_px, SIZE_PX)
    planes = model.encode(batch.picture, batch.prior, batch.known, batch.source[0])
    turned = np.degrees(np.abs(motion.rotation_rad - portrait.motion.rotation_rad)).max(1)
    result = []
    for index in np.flatnonzero(turned >= 5):
        frame = replace(motion[int(index)], landmarks=None)
        target = tuple(torch.from_numpy(part.astype(np.float32))[None, None] for part in (frame.rotation_rad, frame.translation))
        depth, offset = expression_offsets(state, head, frame, SIZE_PX)
        known = torch.from_numpy(np.isfinite(depth)).float()[None, None]
        guide = fill_smoothly(torch.from_numpy(np.where(np.isfinite(depth), depth, 0.0)).float()[None, None], known)[None]
        spread = [fill_smoothly(torch.from_numpy(offset[..., axis].copy())[None, None], known) for axis in range(3)]
        moves = torch.cat(spread, 1).permute(0, 2, 3, 1)[None]
        still, still_alpha, _ = draw(model, planes, guide, target, batch.source, slab, march=True)
        moved, moved_alpha, _ = draw(model, planes, guide, target, batch.source, slab, offset=moves)
        warped = warp_by_guide(replace(batch, target=target), march=True)[0]
        kept = replace(portrait.motion, rotation_rad=frame.rotation_rad, translation=frame.translation, landmarks=None)
        answers = (
            plain(batch.rgba[0, 0, :3], batch.rgba[0, 0, 3:]),
            plain(warped[:3], warped[3:]),
            layer(avatar.render(state, kept)),
            plain(still[0, 0], still_alpha[0, 0]),
            plain(moved[0, 0], moved_alpha[0, 0]),
            layer(avatar.render(state, frame)),
        )
        truth = real_crop(frames[index], portrait.crop_box)
        points = np.concatenate([motion.landmarks[index] * (SIZE_PX / CROP_PX), np.zeros((478, 1))], 1)
        hull = face_hull(points, SIZE_PX)
        scores = [float(-10 * np.log10(((answer.clip(0, 1) - truth)[hull] ** 2).mean())) for answer in answers]
        result.append((float(turned[index]), scores))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=None, help="the embedded network when left out")
    parser.add_argument("--every", type=int, default=12, help="take one frame in so many")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    every_clip = []
    for clip in sorted(options.clips.glob("*.mp4")):
        scores = judge_clip(clip, options.weights, options.every)
        if scores:
            every_clip.append(np.mean([row for _, row in scores], 0))
            figures = zip(ROWS, every_clip[-1], strict=True)
            logging.info("%s, %d frames: %s", clip.stem, len(scores), ", ".join(f"{name} {value:.2f}" for name, value in figures))
    mean = zip(ROWS, np.mean(every_clip, 0), strict=True)
    logging.info("mean over clips: %s", ", ".join(f"{name} {value:.2f}" for name, value in mean))


if __name__ == "__main__":
    main()
