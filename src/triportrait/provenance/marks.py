"""Which marks a generated video carries, and the two that stand in its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from triportrait.errors import OptionError
from triportrait.provenance.maker import Account, stored_maker
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class Marks:
    """How generated video is marked.

    Args:
        label: a visible label.
        watermark: an invisible mark in the pixels, with the maker's number.
        manifest: a signed statement in the file, with the maker's name and the consent.
        maker: name or id of who makes the video; None for the one that ``triportrait maker set`` keeps, empty for nobody.
        consent: how the person shown agreed; stands in the signed statement.
    """

    label: bool = True
    watermark: bool = True
    manifest: bool = True
    maker: str | None = None
    consent: str = ""

    def account(self) -> Account:
        """Who answers for the video.

        Raises:
            OptionError: a text that does not fit, one that no mark would carry, or a stored maker that cannot be read.
        """
        if self.maker and not (self.watermark or self.manifest):
            raise OptionError("--maker stands in the watermark and in the signed statement; leave one of them on")
        if self.consent and not self.manifest:
            raise OptionError("--consent stands in the signed statement; leave out --no-manifest")
        return Account(stored_maker() if self.maker is None else self.maker.strip(), self.consent.strip())


class Finish:
    """Label and watermark on every frame.

    Args:
        marks: which of them.
        size: (w, h) of the frames in pixels.
        payload: what the watermark says: the maker's number.

    Attributes:
        payload: the same, or None where there is no watermark.
    """

    def __init__(self, marks: Marks, size: tuple[int, int], payload: int) -> None:
        from triportrait.provenance.label import draw_label
        from triportrait.provenance.watermark import SMALLEST_SIDE_PX, Watermarker

        self._label = draw_label if marks.label else None
        self._watermark = Watermarker(size, payload) if marks.watermark and min(size) >= SMALLEST_SIDE_PX else None
        self.payload = payload if self._watermark else None

    def __call__(self, image: Array) -> Array:
        if self._label:
            image = self._label(image)
        return self._watermark.apply(image) if self._watermark else image
