"""What ``triportrait animate --preset talk3d`` does: one person of the user's weights, driven by a voice or a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triportrait.performance import Performance
    from triportrait.talk3d.driver import PersonalOptions
    from triportrait.types import PathLike

    Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class PersonParts:
    """What ``--preset talk3d`` takes besides."""

    wav2vec2: Path | None = None
    """Folder of wav2vec2. Default: beside the weights, or where 'triportrait weights import' puts it."""
    camera_window: int = 7
    """Frames that the cameras of the person's video are averaged over, odd; 1 leaves them as they are."""


@dataclass(frozen=True)
class PreparedPerson:
    """The work, everything that goes into it being looked at by :meth:`check`.

    Args:
        audio, driving: what drives, one of them.
        parts: see there.
        weights: folder of the person.
        device, batch: of the networks.
        given: pose, blink and seed, as far as the user gave them.
    """

    audio: Path | None
    driving: Path | None
    parts: PersonParts
    weights: Path | None
    device: str
    batch: int
    given: Mapping[str, Any]

    def files(self) -> list[PathLike]:
        """Files and folders that are named."""
        named = [self.weights, self.parts.wav2vec2]
        return [*self.options().files(), *(path for path in named if path is not None)]

    def options(self) -> PersonalOptions:
        """What the user turned."""
        from triportrait.talk3d.driver import PersonalOptions

        return PersonalOptions(**self.given, camera_window=self.parts.camera_window)

    def check(self) -> None:
        """Raise what would end the work later: files that are missing, or options that do not fit."""
        from triportrait.errors import OptionError
        from triportrait.personal import find_files

        if self.batch < 0:
            raise OptionError(f"--batch is {self.batch}; use a positive whole number, or 0 for what suits the device")
        if self.driving is not None:
            from triportrait.media.probe import probe

            if not probe(self.driving).has_audio:
                raise OptionError(
                    f"'{self.driving}' has no sound, which moves the lips of --preset talk3d; give one with sound, or a voice"
                )
        find_files(self.weights, self.parts.wav2vec2)
        self.options().check_files()

    def __call__(self, progress: Progress) -> Performance:
        from triportrait.personal import load_person

        progress("loading the person", 0, 0)
        person = load_person(self.weights, self.parts.wav2vec2, device=self.device, batch=self.batch)
        if self.driving is not None:
            return person.drive(self.driving, self.options(), progress)
        assert self.audio is not None, "one of the two is given"
        return person.talk(self.audio, self.options(), progress)
