"""Head-torso-background super-resolution: a rendered head, a torso in motion and a background to one picture (paper section 4.3, eq. 5).

Legend: b batch, c channels; the head comes at 128 x 128, layers are fused at 256 x 256, the picture leaves at 512 x 512.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.stylegan import ConstantStyle, StyledBlock
from triportrait.nn.synthesis import SynthesisBlock
from triportrait.nn.winograd import Convolution
from triportrait.real3d.torso import TorsoNetwork, TorsoSource

Fusion = Literal["blend", "convolve", "learned", "concatenate"]

#: Numbers of a StyleGAN2 style.
_STYLE = 512
_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class SceneSource:
    """What never changes in a video: the torso, ``background`` [b, 3, 256, 256] and ``background_features`` [b, c, 256, 256]."""

    torso: TorsoSource
    background: Tensor
    background_features: Tensor


@dataclass(frozen=True)
class HtbSuperResolutionConfig:
    """Sizes and ways of fusing; the defaults are the published variant, :meth:`paper` has the size of the paper's table.

    Args:
        head_side: of the rendered head in pixels; layers are fused at twice, the picture leaves at four times of it.
        head_channels: features of the rendered head.
        channels: width of the fused features.
        out_channels: width after the last doubling.
        background_channels: width of the background encoder's first layer and of the scene's first fusion.
        head_torso: how head and torso join. ``"blend"`` adds features by alpha (eq. 5); ``"convolve"`` weights them by alpha and convolves
            (the published variant 2); ``"learned"`` does so by an alpha that is predicted from both layers and never above the rendered one
            (variant 3); ``"concatenate"`` convolves both side by side and leaves it to the network which one is in front (an ablation of
            the paper's Table 4).
        scene: the same for the person and the background; ``"blend"``, ``"convolve"`` or ``"concatenate"``.
        head_threshold: alpha above which the head hides the background entirely.
        torso: the torso branch.
        trained_form: with styles, norms and the published layers that nothing reads; else they are folded or left out.
    """

    head_side: int = 128
    head_channels: int = 32
    channels: int = 256
    out_channels: int = 128
    background_channels: int = 64
    head_torso: Fusion = "convolve"
    scene: Fusion = "convolve"
    head_threshold: float = 0.9
    torso: TorsoNetwork.Config = field(default_factory=TorsoNetwork.Config)
    trained_form: bool = False

    def __post_init__(self) -> None:
        if self.scene == "learned":
            raise ValueError("an alpha is learned between head and torso only")

    @classmethod
    def published(cls, trained_form: bool = False) -> HtbSuperResolutionConfig:
        """The variant whose weights the authors give away (54.976 M parameters in the trained form)."""
        return cls(torso=TorsoNetwork.Config(trained_form=trained_form), trained_form=trained_form)

    @classmethod
    def paper(cls, trained_form: bool = False) -> HtbSuperResolutionConfig:
        """The older variant (50.66 M in the trained form): head and torso blended, person and background convolved."""
        return cls(head_torso="blend", torso=TorsoNetwork.Config.paper(trained_form), trained_form=trained_form)


class HtbSuperResolution(nn.Module):
    """Rendered head + :class:`SceneSource` + landmarks -> picture."""

    Config: TypeAlias = HtbSuperResolutionConfig

    def __init__(self, config: HtbSuperResolutionConfig) -> None:
        super().__init__()
        self.config = config
        width, narrow, trained = config.channels, config.background_channels, config.trained_form
        hidden = config.torso.generator_channels[-1]
        middle = 2 * config.head_side

        self.double_head = _block(config.head_channels, width, middle, trained)
        self.torso = TorsoNetwork(config.torso)
        self.torso_encoder: nn.Conv2d | None = None
        if config.head_torso == "blend" or trained:
            self.torso_encoder = nn.Conv2d(hidden, width, 1)
        if config.head_torso != "blend":
            # Folded, the torso's encoder is part of the next convolution; its bias is then a channel of its own.
            self.head_torso_join = Convolution(width + (width if trained else hidden + 1), width, 3, padding=1)
            self.head_torso_mix = Convolution(width, width, 3, padding=1)
            self.head_torso_block = _block(width, width, middle, trained, doubling=False)
        self.background_encoder = nn.Sequential(
            Convolution(3, narrow, 3, padding=1),
            nn.LeakyReLU(_SLOPE, inplace=True),
            Convolution(narrow, width, 3, padding=1),
            nn.LeakyReLU(_SLOPE, inplace=True),
            Convolution(width, width, 3, padding=1),
        )
        if config.scene != "blend":
            self.person_join = nn.Conv2d(width, narrow, 1)
            self.background_join = nn.Conv2d(width, narrow, 1, bias=False)
            self.scene_mix = nn.Sequential(
                Convolution(narrow, width, 3, padding=1), nn.LeakyReLU(_SLOPE, inplace=True), Convolution(width, width, 3, padding=1)
            )
        self.double_scene = _block(width, config.out_channels, 2 * middle, trained)
        if config.head_torso == "concatenate":
            self.head_torso_colours = nn.Conv2d(6, 3, 1)
        if config.scene == "concatenate":
            self.scene_colours = nn.Conv2d(6, 3, 1)
        if config.head_torso == "learned":
            self.alpha_predictor = _alpha_predictor()
        elif trained and config.head_torso == "convolve":
            # Published for the learned alpha; nothing reads it.
            self.unread = _alpha_predictor()

    def prepare(self, torso: Tensor, masks: Tensor, background: Tensor, landmarks: Tensor, head: Tensor | None = None) -> SceneSource:
        """All that the source alone decides.

        Args:
            torso: [b, 3, 512, 512] the torso in -1..1 with what the head hides painted in, -1 where it is not.
            masks: [b, 2, 512, 512] neck and clothes, 0 or 1.
            background: [b, 3, 512, 512] in -1..1.
            landmarks: [b, 68, 2 or 3] in the source, -1..1, y down.
            head: [b, 3, 512, 512] the source's head in -1..1 on black; only unsupervised key points look at it.
        """
        side = 2 * self.config.head_side
        source = self.torso.prepare(_resize(torso, side), masks, landmarks, None if head is None else _resize(head, side))
        return SceneSource(source, *self.prepare_background(background))

    def prepare_background(self, background: Tensor) -> tuple[Tensor, Tensor]:
        """Background [b, 3, 512, 512] in -1..1 -> ``background`` and ``background_features`` of a :class:`SceneSource`."""
        background = _resize(background, 2 * self.config.head_side)
        features = self.background_encoder(background)
        if self.config.scene != "blend":
            features = self.background_join(features)
        return background, features

    def forward(self, features: Tensor, alpha: Tensor, source: SceneSource, landmarks: Tensor) -> Tensor:
        """Frames.

        Args:
            features: [b, c, 128, 128] of the rendered head in -1..1, its colour in the first three channels.
            alpha: [b, 1, 128, 128] of the rendered head.
            source: of :meth:`prepare`; one source serves all frames of a batch.
            landmarks: [b, 68, 2 or 3] where the source's landmarks are now.

        Returns:
            [b, 3, 512, 512] about -1..1, not clamped.
        """
        side, fusion = 2 * self.config.head_side, self.config
        alpha = _resize(alpha, side)
        x, rgb = self.double_head(features, features[:, :3])
        torso = self.torso(source.torso, landmarks, _resize(features[:, :3], side), alpha)

        threshold: Tensor | float = fusion.head_threshold
        if fusion.head_torso == "learned":
            guess = self.alpha_predictor(torch.cat([rgb, torso.rgb, alpha], dim=1)).float()
            alpha = torch.minimum(alpha, torch.sigmoid(guess))
            if not self.training:
                threshold = _solid_from(alpha, fusion.head_threshold)
        if fusion.head_torso == "concatenate":
            rgb = self.head_torso_colours(torch.cat([rgb, torso.rgb], dim=1))
            x = self._join_torso(x, torso.hidden, torch.ones_like(alpha))
        else:
            rest = 1.0 - alpha
            rgb = rgb * alpha + torso.rgb * rest  # eq. 5, inner bracket
            x = self._join_torso(x * alpha.to(x.dtype), torso.hidden, rest)
        if fusion.head_torso != "blend":
            x, rgb = self.head_torso_block(x, rgb)

        if fusion.scene == "concatenate":
            background = source.background.expand(len(rgb), -1, -1, -1)
            rgb = self.scene_colours(torch.cat([rgb, background], dim=1))
            x = self._mix_scene(self.person_join(x) + source.background_features)
        else:
            solid = torch.where(alpha > threshold, 1.0, alpha)
            person = (torso.alpha + solid).clamp(0.0, 1.0)
            rest = 1.0 - person
            rgb = rgb * person + source.background * rest  # eq. 5
            # Nothing holds on to pictures of all channels: two of them are a tenth of a frame's memory.
            x = x * person.to(x.dtype)
            behind = source.background_features * rest.to(source.background_features.dtype)
            x = x + behind if fusion.scene == "blend" else self._mix_scene(self.person_join(x) + behind)
        return self.double_scene(x, rgb)[1]

    def _join_torso(self, head: Tensor, hidden: Tensor, rest: Tensor) -> Tensor:
        """Head features dimmed by alpha, hidden features of the torso, 1 - alpha -> features of the person."""
        rest = rest.to(hidden.dtype)
        if self.torso_encoder is None:
            # The bias's channel is one more that holds ones. Channels are last, as those of the head are.
            torso = functional.pad(hidden.contiguous(memory_format=torch.channels_last), (0, 0, 0, 0, 0, 1), value=1.0) * rest
        else:
            torso = self.torso_encoder(hidden) * rest
        if self.config.head_torso == "blend":
            return head + torso
        x = functional.leaky_relu(self.head_torso_join(torch.cat([head, torso], dim=1)), _SLOPE, inplace=True)
        return self.head_torso_mix(x)

    def _mix_scene(self, joined: Tensor) -> Tensor:
        return self.scene_mix(functional.leaky_relu(joined, _SLOPE, inplace=True))


def _alpha_predictor() -> nn.Sequential:
    """Colours of head and torso and the head's alpha [b, 7, h, w] -> logits of another alpha [b, 1, h, w]."""
    return nn.Sequential(
        nn.Conv2d(7, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1)
    )


def _solid_from(alpha: Tensor, least: float) -> Tensor:
    """From where on a learned alpha counts as solid [b, 1, 1, 1]: the 5 % quantile of what is visible, but not below ``least``."""
    visible = torch.where(alpha > 0.05, alpha, torch.nan).flatten(1)
    return torch.nanquantile(visible, 0.05, dim=1).nan_to_num(least).clamp(min=least)[:, None, None, None]


def _block(channels: int, out: int, side: int, trained_form: bool, doubling: bool = True) -> nn.Module:
    if trained_form:
        return ConstantStyle(StyledBlock(channels, out, _STYLE, side, doubling=doubling), _STYLE)
    return SynthesisBlock(channels, out, doubling)


def _resize(picture: Tensor, side: int) -> Tensor:
    return functional.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
