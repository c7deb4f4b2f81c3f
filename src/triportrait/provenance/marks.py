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
        from triportrait.provenance.watermark import SMALLEST_SIDE_PX, Watermarker

        self._has_label = marks.label
        self._watermark = Watermarker(size, payload) if marks.watermark and min(size) >= SMALLEST_SIDE_PX else None
        self.payload = payload if self._watermark else None

    def __call__(self, image: Array) -> Array:
        from triportrait.provenance.label import draw_label

        if self._has_label:
            image = draw_label(image)
        return self._watermark.apply(image) if self._watermark else image

    @property
    def fingerprint(self) -> str:
        """Tells these marks from others."""
        return f"label {self._has_label}, watermark {self.payload}"

    def without_scene(self, image: Array, alpha: Array) -> tuple[Array, Array]:
        """The same for a person without a scene: uint8 [h, w, 3] not multiplied by alpha, and alpha uint8 [h, w].

        The watermark is in the person's own colours, so what is put behind the person later shows nothing of it.
        """
        from triportrait.provenance.label import draw_label_over

        if self._has_label:
            image, alpha = draw_label_over(image, alpha)
        return self._watermark.apply(image) if self._watermark else image, alpha
