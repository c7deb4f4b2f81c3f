"""What a volume renderer gives, for the avatars that one is handed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class SeenVolume(Protocol):
    """A volume seen by b cameras: features [b, c, s, s], depth and alpha [b, 1, s, s]."""

    @property
    def features(self) -> Tensor: ...
    @property
    def depth(self) -> Tensor: ...
    @property
    def alpha(self) -> Tensor: ...
