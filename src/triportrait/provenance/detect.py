"""Was this video made by TriPortrait, and by whom? Both machine-readable marks, joined into one answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triportrait.provenance.maker import NO_MAKER, maker_number, shown_number
from triportrait.provenance.manifest import ManifestInfo, read_manifest
from triportrait.provenance.reading import Detection, detect_watermark
from triportrait.types import Array

#: States of a manifest that was not changed.
_UNBROKEN = ("trusted", "valid", "unsigned")


@dataclass(frozen=True, slots=True)
class ProvenanceReport:
    """What both detectors saw in one file; ``str(report)`` is the text the command line prints.

    Args:
        watermark: of the frames.
        manifest: of the file.
        asked_maker: the name that was asked for, or None.
    """

    watermark: Detection
    manifest: ManifestInfo
    asked_maker: str | None = None

    @property
    def is_marked(self) -> bool:
        """Whether the file is known to be generated: our watermark, or an unbroken manifest that says so."""
        return self.watermark.found or (self.manifest.state in _UNBROKEN and self.manifest.is_generated)

    @property
    def maker_number(self) -> int | None:
        """The maker's number in the watermark; 0 where it names nobody, None where none can be read."""
        return None if self.watermark.is_former else self.watermark.payload

    @property
    def number_fits_statement(self) -> bool | None:
        """Whether the watermark's number is that of the maker whom the unbroken statement names; None where that cannot be told."""
        if self.watermark.is_former or self.manifest.state not in _UNBROKEN or not self.manifest.is_generated:
            return None
        if self.maker_number is None:
            return self.watermark.bears_expected if self.asked_maker is None else None
        return self.maker_number == maker_number(self.manifest.maker)

    def record(self) -> dict[str, Any]:
        """The same for programs: whether it was generated, what each mark says, and the text for people."""
        seen, said = self.watermark, self.manifest
        return {
            "generated": self.is_marked,
            "watermark": {"found": bool(seen.found), "score": round(float(seen.score), 2), "maker_number": self.maker_number},
            "manifest": {
                "state": said.state,
                "signer": said.signer,
                "software": said.software,
                "maker": said.maker,
                "consent": said.consent,
            },
            "text": str(self),
        }

    def __str__(self) -> str:
        verdict = "AI-generated" if self.is_marked else "No mark found (which does not prove that it is a recording)"
        lines = [verdict, f"  watermark: {self._watermark_line()}", f"  manifest:  {self._manifest_line()}"]
        lines += [f"  maker:     {line}" for line in self._maker_lines()]
        return "\n".join(lines)

    def _watermark_line(self) -> str:
        seen = self.watermark
        if not seen.frames:
            return "no frame could be looked at"
        if not seen.found:
            return f"none (score {seen.score:.1f} after {seen.frames} frames)"
        if seen.payload is None:
            says = "maker's number unreadable"
        elif seen.is_former:
            says = f"payload {seen.payload} of the former mark, which names no maker"
        else:
            says = "no maker named" if seen.payload == NO_MAKER else f"maker's number {shown_number(seen.payload)}"
        return f"TriPortrait, {says} (score {seen.score:.1f} after {seen.frames} frames{self._changes()})"

    def _changes(self) -> str:
        """What happened to the picture since it was marked."""
        seen = self.watermark
        words = f", turned by {90 * seen.quarter_turns} degrees" if seen.quarter_turns else ""
        words += ", mirrored" if seen.mirrored else ""
        if seen.placement.kept != (1.0, 1.0):
            words += ", cropped to {:.0%} x {:.0%}".format(*seen.placement.kept)
        if seen.placement.share != (1.0, 1.0):
            words += ", within a larger picture of which it takes {:.0%} x {:.0%}".format(*seen.placement.share)
        return words

    def _manifest_line(self) -> str:
        info = self.manifest
        if info.state == "none":
            return "none"
        meaning = {
            "trusted": f"unchanged, signed on this computer's authority by {info.signer}",
            "valid": f"unchanged, signed by {info.signer}, whom this computer does not know",
            "unsigned": "a note beside the file, which fits it but is not signed",
            "invalid": f"broken: the file was changed after signing ({', '.join(info.problems) or 'no reason given'})",
        }[info.state]
        about = f"; made with {info.software}" if info.software else ""
        inputs = f" from {', '.join(info.ingredients)}" if info.ingredients else ""
        maker = f' by "{info.maker}"' if info.maker else ""
        consent = f'; consent: "{info.consent}"' if info.consent else ""
        return f"{meaning}{about}{maker}{inputs}{consent}"

    def _maker_lines(self) -> list[str]:
        """How name, number and the name that was asked for fit each other."""
        lines = []
        if (fits := self.number_fits_statement) is not None and (self.manifest.maker or self.maker_number):
            whom = f'"{self.manifest.maker}"' if self.manifest.maker else "nobody"
            lines.append(f"the statement names {whom}, {'which agrees' if fits else 'which does NOT agree'} with the watermark's number")
        if self.asked_maker is not None:
            number = shown_number(maker_number(self.asked_maker))
            answer = {True: "yes, the watermark bears", False: "no, the watermark does not bear", None: "cannot be told; it would be"}
            lines.append(f'"{self.asked_maker}"? {answer[self.watermark.bears_expected]} {number}')
        return lines


def detect(
    frames: Iterable[Array], path: Path | str, key_folder: Path | str | None = None, *, maker: str | None = None
) -> ProvenanceReport:
    """Look for the watermark in ``frames`` (uint8 [h, w, 3], decoded lazily by the caller) and a manifest in ``path``.

    Args:
        frames: drawn from the whole file.
        path: the file.
        key_folder: where the certificates are that count as trusted; None for this user's.
        maker: a name to look for; a number too faint to be read can still be told to be theirs.

    Raises:
        MediaError: no such file.
        MissingPart: a manifest is there and c2pa-python is not.
    """
    manifest = read_manifest(path, key_folder)
    expected = maker_number(maker if maker is not None else manifest.maker)
    return ProvenanceReport(detect_watermark(frames, expected=expected or None), manifest, maker)
