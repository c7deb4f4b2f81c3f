"""A synthetic person at poses that the video does not show, where the truth is known: is a person worse than one photo anywhere?

    python benchmarks/person_unseen_poses.py --data ../shared/data [--people 2]

Five seconds of a procedural head that turns by up to 12 degrees and speaks are given. It is judged at yaw +-20 and +-30 and at pitch +-20
degrees. Rows: the first frame as a photo, the person's pictures, the same with the linear delta. Columns: PSNR of the head (dB) and the
mean absolute difference over it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from triportrait.evaluation import metrics
from triportrait.evaluation.parts import default_tools
from triportrait.evaluation.personal import default_personal_tools
from triportrait.evaluation.reenact import shrink
from triportrait.face.takes import Take
from triportrait.synth import deferred
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.synth.procedural_views import slight_expression
from triportrait.types import FOCAL_IN_WIDTHS, Array

FPS, SECONDS = 12.5, 5.0
#: Pitch and yaw in degrees at which it is judged; the evaluated side.
JUDGED = ((0, 20), (0, -20), (0, 30), (0, -30), (20, 0), (-20, 0))
SIDE_PX = 256
PLACE = np.array([0.0, 0.04, -5.0])


def given(seed: int) -> Iterator[HeadPose]:
    """The video: the head wanders, the mouth opens and closes, the eyes blink twice."""
    weights, gaze = slight_expression(np.random.default_rng(seed))
    for second in np.arange(0.0, SECONDS, 1.0 / FPS):
        turn = np.radians([8.0 * np.sin(1.3 * second), 12.0 * np.sin(1.9 * second + 0.7), 3.0 * np.sin(0.9 * second)])
        blink = max(0.0, np.cos(2.0 * np.pi * (second - 1.2) / 2.5) - 0.9) * 10.0
        said = {"jawOpen": 0.25 * (1.0 - np.cos(9.0 * second)), "eyeBlinkLeft": blink, "eyeBlinkRight": blink}
        yield HeadPose(weights | said, gaze, turn, PLACE)


def judged(seed: int) -> Iterator[HeadPose]:
    """The poses that are judged."""
    weights, gaze = slight_expression(np.random.default_rng(seed))
    for pitch, yaw in JUDGED:
        yield HeadPose(weights | {"jawOpen": 0.2}, gaze, np.radians([pitch, yaw, 0.0]), PLACE)


def drawn(head: ProceduralHead, poses: Iterator[HeadPose]) -> list[Array]:
    """Frames uint8 [512, 512, 3] before grey; the light and the body stay."""
    poses = list(poses)
    frames = []
    for pose in poses:
        made = deferred.draw(head.sheets, head.moment(pose, poses[0]), head.light.levels, head.exposure, FOCAL_IN_WIDTHS, 512, 2)
        frames.append(np.clip(255 * (made.person_rgb + 0.4 * (1 - made.person_alpha[..., None])), 0, 255).astype(np.uint8))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--people", type=int, default=2)
    options = parser.parse_args()
    factory = HeadFactory(options.data)
    base, tools = default_tools(), default_personal_tools()
    for seed in range(options.people):
        random = np.random.default_rng(seed)
        head = ProceduralHead(factory, random_person(random, factory.targets, len(factory.hdri)), 24)
        video = drawn(head, given(seed))
        truth = drawn(head, judged(seed))
        first = base.prepare_portrait(video[0])
        takes = [Take(lambda video=video: iter(video), f"person {seed}")]
        person, track = tools.make_person(takes, FPS, first.crop_box)
        delta = tools.learn(person, takes, track, "personal+linear")
        rows = {"first": first, "personal": person, "personal+linear": replace(person, delta=delta)}
        left, top, side = first.crop_box
        size = len(first.image)
        real = [shrink(base.crop(picture, first.crop_box, size), SIDE_PX) for picture in truth]
        seen = base.track(truth)
        points = (seen.landmarks[..., :2] - (left, top)) * (size / side)
        masks = [metrics.head_mask(face, SIDE_PX) for face in points * (SIDE_PX / size)]
        for name, portrait in rows.items():
            render = base.make_renderer("oneshot" if name == "first" else "person", portrait)
            motion = base.fit(portrait, points)
            line = []
            for index, (pitch, yaw) in enumerate(JUDGED):
                if not seen.found[index]:
                    continue
                made = shrink(render(motion[index]), SIDE_PX)
                figures = metrics.psnr(made, real[index], masks[index]), metrics.l1(made, real[index], masks[index])
                line.append(f"{pitch:+d}/{yaw:+d}: {figures[0]:.2f} {figures[1]:.4f}")
            print(f"person {seed}  {name:16s} {'  '.join(line)}", flush=True)


if __name__ == "__main__":
    main()
