"""Was this video made by TriPortrait? Both machine-readable marks, joined into one answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from triportrait.provenance.manifest import ManifestInfo, read_manifest
from triportrait.provenance.watermark import Detection, detect_watermark
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class ProvenanceReport:
    """What both detectors saw in one file; ``str(report)`` is the text the command line prints.

    Args:
        watermark: of the frames.
        manifest: of the file.
    """

    watermark: Detection
    manifest: ManifestInfo

    @property
    def is_marked(self) -> bool:
        """Whether the file is known to be generated: our watermark, or an unbroken manifest that says so."""
        states = ("trusted", "valid", "unsigned")
        return self.watermark.found or (self.manifest.state in states and self.manifest.is_generated)

    def __str__(self) -> str:
        verdict = "AI-generated" if self.is_marked else "No mark found (which does not prove that it is a recording)"
        return "\n".join((verdict, f"  watermark: {self._watermark_line()}", f"  manifest:  {self._manifest_line()}"))

    def _watermark_line(self) -> str:
        seen = self.watermark
        if not seen.frames:
            return "no frame could be looked at"
        if not seen.found:
            return f"none (score {seen.score:.1f} after {seen.frames} frames)"
        change = ", mirrored" if seen.mirrored else ""
        if seen.kept != (1.0, 1.0):
            change += f", cropped to {seen.kept[0]:.0%} x {seen.kept[1]:.0%}"
        payload = "payload unreadable" if seen.payload is None else f"payload {seen.payload}"
        return f"TriPortrait, {payload} (score {seen.score:.1f} after {seen.frames} frames{change})"

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
        return f"{meaning}{about}{inputs}"


def detect(frames: Iterable[Array], path: Path | str, key_folder: Path | str | None = None) -> ProvenanceReport:
    """Look for the watermark in ``frames`` (uint8 [h, w, 3], decoded lazily by the caller) and a manifest in ``path``.

    Raises:
        MediaError: no such file.
        MissingPart: a manifest is there and c2pa-python is not.
    """
    manifest = read_manifest(path, key_folder)
    return ProvenanceReport(detect_watermark(frames), manifest)
