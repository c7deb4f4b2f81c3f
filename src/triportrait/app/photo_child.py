"""A process that prepares an uploaded photo: ``python -m triportrait.app.photo_child PHOTO TARGET [FACE]``.

It prints one line of JSON: ``{"faces": []}`` when the avatar file is written, and all faces when the photo shows several people and none
was chosen. What is wrong with the photo it says as every program of ours does. Whatever a photo does to it, the server goes on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from triportrait.errors import TriPortraitError
from triportrait.geometry.landmarks import NOSE_TIP

#: A box is so much wider than the face's landmarks, so that one knows who it is.
_WIDER = 1.6


def prepare(photo: Path, target: Path, face: int | None = None) -> list[dict[str, Any]]:
    """Write the avatar file of a photo (or of an avatar file).

    Args:
        photo: as it was uploaded.
        target: avatar file to write.
        face: which one, counted from the left; None where there is only one.

    Returns:
        Without a choice between several faces, and then nothing is written: for each its ``number`` from the left and its ``box``
        (left, top, width, height in pixels of the upright photo). Otherwise nothing.

    Raises:
        TriPortraitError: no picture, or no face that can be animated.
    """
    from triportrait.face.portrait import PortraitOptions
    from triportrait.media.avatar_files import looks_like_avatar
    from triportrait.pipeline import save_portrait

    if looks_like_avatar(photo):
        save_portrait(photo, target)
        return []
    if face is None and len(faces := _faces(photo)) > 1:
        return faces
    save_portrait(photo, target, PortraitOptions(face=face))
    return []


def _faces(photo: Path) -> list[dict[str, Any]]:
    from triportrait.drivers import default_tracker
    from triportrait.face.upright import upright_photo
    from triportrait.media.images import composite_over, read_image

    image = read_image(photo)
    _, found = upright_photo(default_tracker(), composite_over(image) if image.shape[-1] == 4 else image, "the photo")
    boxes = []
    # As they are counted when one is chosen.
    for face in sorted(found, key=lambda face: float(face.landmarks[NOSE_TIP, 0])):
        low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
        side = _WIDER * float((high - low).max())
        left, top = 0.5 * (low + high) - 0.5 * side
        boxes.append([round(float(value), 1) for value in (left, top, side, side)])
    return [{"number": number, "box": box} for number, box in enumerate(boxes, 1)]


def main() -> None:
    """The process."""
    photo, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        faces = prepare(photo, target, int(sys.argv[3]) if len(sys.argv) > 3 else None)
    except TriPortraitError as error:
        sys.stderr.write(f"triportrait: {error}\n")
        sys.exit(error.exit_code)
    except MemoryError:
        sys.exit(1)
    sys.stdout.write(json.dumps({"faces": faces}) + "\n")


if __name__ == "__main__":
    main()
