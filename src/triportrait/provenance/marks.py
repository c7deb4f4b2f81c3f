"""Which marks a generated video carries, and the two that stand in its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class Marks:
    """How generated video is marked: a visible label, a watermark in the pixels, a signed statement in the file."""

    label: bool = True
    watermark: bool = True
    manifest: bool = True


class Finish:
    """Label and watermark on every frame."""

    #: A fixed payload tells that this project made the picture; the signed statement says more.
    PAYLOAD = 0x3D50

    def __init__(self, marks: Marks, size: tuple[int, int]) -> None:
        from triportrait.provenance.label import draw_label
        from triportrait.provenance.watermark import Watermarker

        self._label = draw_label if marks.label else None
        self._watermark = Watermarker(size, self.PAYLOAD) if marks.watermark and min(size) >= 128 else None
        self.payload = self.PAYLOAD if self._watermark else None

    def __call__(self, image: Array) -> Array:
        if self._label:
            image = self._label(image)
        return self._watermark.apply(image) if self._watermark else image
