"""The torso branch of the head-torso-background super-resolution: the source's torso warped by key points of the head (paper section 4.3).

Legend: b batch, k key points, c channels, d h w depth and size of the appearance volume (16 x 64 x 64), H W the picture (256 x 256).
What depends on the source alone is a :class:`TorsoSource`, computed once per portrait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.volume_conv import ConvNormAct, ResidualBlock, UpBlock, halve_size
from triportrait.nn.warping import identity_field, key_point_maps, key_point_motions, warp

#: Rows of the 68 landmarks that drive the published torso: ends of the jaw, chin, bridge of the nose.
KEY_POINTS = (0, 8, 16, 27)

#: The torso mask grows by this many cells of the volume on every side before it cuts the appearance.
_MASK_MARGIN = 3
#: Temperature of the heat that unsupervised key points are the mean places of.
_HEAT = 0.1
#: Channels that the appearance is squeezed to before it is warped with every key point.
_COMPRESSED = 4


@dataclass(frozen=True, slots=True)
class TorsoSource:
    """A source's torso: ``volume`` [b, c, d, h, w] inside its mask, ``compressed`` [b, 4, d, h, w], ``key_points`` [b, k, 3]."""

    volume: Tensor
    compressed: Tensor
    key_points: Tensor

    def for_frames(self, count: int) -> TorsoSource:
        """One source for ``count`` frames, as views; sources of that many stay."""
        if len(self.volume) == count:
            return self
        return TorsoSource(*(part.expand(count, *part.shape[1:]) for part in (self.volume, self.compressed, self.key_points)))


@dataclass(frozen=True, slots=True)
class TorsoLayer:
    """A torso in motion: ``rgb`` [b, 3, H, W], ``hidden`` features [b, 64, H, W], ``alpha`` [b, 1, H, W] in 0..1."""

    rgb: Tensor
    hidden: Tensor
    alpha: Tensor


@dataclass(frozen=True, slots=True)
class TorsoNetworkConfig:
    """Sizes; the defaults are the published variant (v2), :meth:`paper` gives the older one (v1) whose size the paper's table has.

    Args:
        appearance_channels: widths of the appearance extractor's pictures at 1, 1/2 and 1/4 of the size.
        volume_channels, depth: of the appearance volume.
        residual_blocks: in the appearance extractor and in the generator.
        motion_channels: widths of the motion field's hourglass, finest first; the deepest turns round.
        motion_out: channels that the hourglass gives.
        generator_channels: widths of the generator at 1/4, 1/2 and 1 of the size.
        occlusion_channels: width of the predictor of the torso's alpha.
        key_points: rows of the 68 landmarks.
        unsupervised_key_points: that many key points found in the head's picture by a network that nobody tells where they should be, in
            place of the landmarks (an ablation of the paper's Table 4); 0 takes the landmarks.
        detector_channels: widths of that network's hourglass, finest first.
        mask_channels: masks that join the picture (neck, clothes); 0 leaves them out.
        head_channels: width of the head's encoding that steers the motion field; 0 leaves it out.
        trained_form: with batch and spectral norms, and with the published layer that nothing reads; else they are folded or left out.
    """

    appearance_channels: tuple[int, int, int] = (64, 128, 256)
    volume_channels: int = 32
    depth: int = 16
    residual_blocks: int = 6
    motion_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    motion_out: int = 32
    generator_channels: tuple[int, int, int] = (256, 128, 64)
    occlusion_channels: int = 32
    key_points: tuple[int, ...] = KEY_POINTS
    unsupervised_key_points: int = 0
    detector_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    mask_channels: int = 2
    head_channels: int = 32
    trained_form: bool = False

    @property
    def motions(self) -> int:
        """Candidates of every cell's motion: one per key point, and rest."""
        return 1 + (self.unsupervised_key_points or len(self.key_points))

    @classmethod
    def paper(cls, trained_form: bool = False) -> TorsoNetworkConfig:
        """The older variant: sees the picture only, and its motion field does not know the head."""
        return cls(mask_channels=0, head_channels=0, trained_form=trained_form)


class AppearanceExtractor(nn.Module):
    """Picture and masks [b, 3 + m, H, W] -> appearance volume [b, c, d, H / 4, W / 4]."""

    def __init__(self, config: TorsoNetworkConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.appearance_channels
        self.volume_shape = (config.volume_channels, config.depth)
        trained = config.trained_form
        self.stem = ConvNormAct(2, 3 + config.mask_channels, fine, 7, trained_form=trained)
        self.down = nn.ModuleList(ConvNormAct(2, a, b, trained_form=trained) for a, b in ((fine, middle), (middle, coarse)))
        self.lift = nn.Conv2d(coarse, config.volume_channels * config.depth, 1)
        self.residual = nn.Sequential(
            *(ResidualBlock(3, config.volume_channels, trained_form=trained) for _ in range(config.residual_blocks))
        )

    def forward(self, picture: Tensor) -> Tensor:
        x = self.stem(picture)
        for layer in self.down:
            x = halve_size(layer(x))
        return self.residual(self.lift(x).unflatten(1, self.volume_shape))


class HeadEncoder(nn.Module):
    """The rendered head's colour and alpha [b, 4, H, W] -> features [b, c, H / 4, W / 4]."""

    def __init__(self, channels: int, trained_form: bool) -> None:
        super().__init__()
        self.stem = ConvNormAct(2, 4, channels, 7, trained_form=trained_form)
        self.residual = nn.Sequential(*(ResidualBlock(2, channels, trained_form=trained_form) for _ in range(3)))

    def forward(self, head: Tensor) -> Tensor:
        x = functional.interpolate(head, scale_factor=0.5, mode="bilinear", align_corners=False)
        x = self.residual(self.stem(x))
        return functional.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)


class KeyPointDetector(nn.Module):
    """A head's picture [b, 3, H, W] -> key points [b, k, 3] in -1..1, each the mean place of a heat volume.

    As face-vid2vid and its kin find theirs (Siarohin et al., 2019; Wang et al., 2021): only the pictures that they lead to train them.
    """

    def __init__(self, config: TorsoNetworkConfig) -> None:
        super().__init__()
        trained, widths = config.trained_form, config.detector_channels
        self.shape = (config.unsupervised_key_points, config.depth)
        down = zip((3, *widths), widths, strict=False)
        self.down = nn.ModuleList(ConvNormAct(2, a, b, trained_form=trained) for a, b in down)
        up = zip(widths[::-1], (*widths[-2::-1], config.motion_out), strict=True)
        self.up = nn.Sequential(*(UpBlock(2, a, b, trained_form=trained) for a, b in up))
        self.heat = nn.Conv2d(3 + config.motion_out, config.unsupervised_key_points * config.depth, 7, padding=3)

    def forward(self, head: Tensor) -> Tensor:
        x = y = functional.interpolate(head, scale_factor=0.25, mode="bilinear", align_corners=False, antialias=True)
        for layer in self.down:
            y = halve_size(layer(y))
        heat = self.heat(torch.cat([x, self.up(y)], dim=1)).float().unflatten(1, self.shape)  # [b, k, d, h, w]
        share = torch.softmax(heat.flatten(2) / _HEAT, dim=-1).unflatten(2, heat.shape[2:])
        return torch.einsum("bkdhw,dhwc->bkc", share, identity_field(tuple(heat.shape[2:]), share))


class MotionField(nn.Module):
    """A volume and two sets of key points -> where every cell comes from, and how much of the torso is visible."""

    def __init__(self, config: TorsoNetworkConfig) -> None:
        super().__init__()
        trained, widths = config.trained_form, config.motion_channels
        motions = config.motions
        channels = motions * (1 + _COMPRESSED)
        self.compress = nn.Conv3d(config.volume_channels + config.mask_channels, _COMPRESSED, 1)
        down = zip((channels, *widths), widths, strict=False)
        self.down = nn.ModuleList(ConvNormAct(3, a, b, trained_form=trained) for a, b in down)
        up = zip(widths[::-1], (*widths[-2::-1], config.motion_out), strict=True)
        self.up = nn.Sequential(*(UpBlock(3, a, b, trained_form=trained) for a, b in up))
        channels += config.motion_out
        self.head_encoder: HeadEncoder | None = None
        if config.head_channels:
            self.head_encoder = HeadEncoder(config.head_channels, trained)
            self.head_join = nn.Conv3d(channels + config.head_channels, config.head_channels, 7, padding=3)
            channels = config.head_channels
        self.weights = nn.Conv3d(channels, motions, 7, padding=3)
        self.visible = nn.Conv2d(channels * config.depth, 1, 7, padding=3)
        if trained:
            # Published with a second map of the same kind that nothing reads.
            self.unread = nn.Conv2d(channels * config.depth, 1, 7, padding=3)

    def forward(self, source: TorsoSource, key_points: Tensor, head: Tensor | None) -> tuple[Tensor, Tensor]:
        """Field [b, d, h, w, 3] and visibility [b, 1, h, w] in 0..1 for the key points [b, k, 3] and the head [b, 4, H, W]."""
        x, motions = self.features(source, key_points, head)
        share = torch.softmax(self.weights(x), dim=1)  # [b, 1 + k, d, h, w]
        field = (share[..., None] * motions).sum(1)
        return field, torch.sigmoid(self.visible(x.flatten(1, 2)))

    def features(self, source: TorsoSource, key_points: Tensor, head: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the motion of every cell is read from [b, c, d, h, w], and the candidates [b, 1 + k, d, h, w, 3]."""
        volume = source.compressed
        batch, _, depth, height, width = volume.shape
        # Positions stay in single precision under autocast, too: eight bits of mantissa are coarser than the cells.
        still = identity_field((depth, height, width), key_points)
        maps = key_point_maps(source.key_points, key_points, still)
        moved = key_point_motions(source.key_points, key_points, still)
        parts = [torch.zeros_like(maps[:, :1]), volume]
        for index in range(moved.shape[1]):
            parts += [maps[:, index : index + 1], warp(volume, moved[:, index])]
        x = torch.cat(parts, dim=1)
        y = x
        for layer in self.down:
            y = halve_size(layer(y))
        x = torch.cat([x, self.up(y)], dim=1)
        if self.head_encoder is not None:
            x = convolve_with_flat(x, self.head_encoder(head), self.head_join.weight, self.head_join.bias)
        return x, torch.cat([still.expand(batch, 1, -1, -1, -1, -1), moved], dim=1)


class TorsoGenerator(nn.Module):
    """Warped appearance [b, c, d, h, w] -> colour [b, 3, 4 h, 4 w] and hidden features [b, 64, 4 h, 4 w]."""

    def __init__(self, config: TorsoNetworkConfig) -> None:
        super().__init__()
        coarse, middle, fine = config.generator_channels
        form = {"trained_form": config.trained_form, "spectral": True}
        self.stem = ConvNormAct(2, config.volume_channels * config.depth, coarse, slope=0.2, **form)
        self.mix = nn.Conv2d(coarse, coarse, 1)
        self.residual = nn.Sequential(*(ResidualBlock(2, coarse, **form) for _ in range(config.residual_blocks)))
        self.up = nn.Sequential(UpBlock(2, coarse, middle, **form), UpBlock(2, middle, fine, **form))
        self.colour = nn.Conv2d(fine, 3, 7, padding=3)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.up(self.residual(self.mix(self.stem(volume.flatten(1, 2)))))
        return self.colour(hidden), hidden


class TorsoNetwork(nn.Module):
    """Moves a source's torso with the head's key points."""

    Config: TypeAlias = TorsoNetworkConfig

    def __init__(self, config: TorsoNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.appearance = AppearanceExtractor(config)
        self.motion = MotionField(config)
        self.generator = TorsoGenerator(config)
        self.detector = KeyPointDetector(config) if config.unsupervised_key_points else None
        width = config.occlusion_channels
        self.alpha = nn.Sequential(
            nn.Conv2d(config.generator_channels[-1] + 1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def select(self, landmarks: Tensor, head: Tensor | None = None) -> Tensor:
        """The key points [b, k, 3] among 68 landmarks [b, 68, 2 or 3] in -1..1; z is 0, as trained.

        Unsupervised ones are found in the head's picture [b, 3, H, W] in -1..1 on black instead.

        Raises:
            ValueError: they are, and there is no picture.
        """
        if self.detector is not None:
            if head is None:
                raise ValueError("unsupervised key points need the picture of the head")
            return self.detector(head)
        points = landmarks[:, list(self.config.key_points), :2]
        return functional.pad(points, (0, 1))

    def prepare(self, picture: Tensor, masks: Tensor, landmarks: Tensor, head: Tensor | None = None) -> TorsoSource:
        """All that the source alone decides.

        Args:
            picture: [b, 3, H, W] the torso in -1..1, -1 where it is not.
            masks: [b, 2, any, any] neck and clothes, 0 or 1.
            landmarks: [b, 68, 2 or 3] in the source, in -1..1, y down.
            head: [b, 3, H, W] the source's head on black, for unsupervised key points only.
        """
        if self.config.mask_channels:
            picture = torch.cat([picture, _resize(masks, picture.shape[-1])], dim=1)
        volume = self.appearance(picture)
        small = _resize(masks, volume.shape[-1])
        volume = volume * grown(small.sum(1, keepdim=True))[:, :, None]
        joined = volume
        if self.config.mask_channels:
            joined = torch.cat([volume, small[:, :, None].expand(-1, -1, self.config.depth, -1, -1)], dim=1)
        return TorsoSource(volume, self.motion.compress(joined), self.select(landmarks, head))

    def forward(self, source: TorsoSource, landmarks: Tensor, head_rgb: Tensor, head_alpha: Tensor) -> TorsoLayer:
        """The torso under a head in motion.

        Args:
            source: of :meth:`prepare`; one source serves all frames of a batch.
            landmarks: [b, 68, 2 or 3] where the source's landmarks are now.
            head_rgb: [b, 3, H, W] the rendered head in -1..1.
            head_alpha: [b, 1, H, W] its alpha.
        """
        head = torch.cat([head_rgb, head_alpha], dim=1) if self.config.head_channels else None
        source = source.for_frames(len(head_rgb))
        field, visible = self.motion(source, self.select(landmarks, head_rgb), head)
        rgb, hidden = self.generator(warp(source.volume, field, padding="border"))  # eq. 10
        visible = functional.interpolate(visible, size=hidden.shape[-2:], mode="bilinear", align_corners=False)
        return TorsoLayer(rgb, hidden, torch.sigmoid(self.alpha(torch.cat([hidden, visible], dim=1))))


def convolve_with_flat(volume: Tensor, flat: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3-D convolution of a volume beside a picture that is the same in every slice, the size kept.

    All taps that fall into the volume see the same picture, so that each slice's taps are summed first and the picture is convolved in 2-D.

    Args:
        volume: [b, c, d, h, w].
        flat: [b, f, h, w].
        weight, bias: [out, c + f, k, k, k] and [out], as for the two side by side.

    Returns:
        [b, out, d, h, w].
    """
    channels, depth, margin = volume.shape[1], volume.shape[2], weight.shape[-1] // 2
    slices = torch.arange(depth, device=weight.device)
    inside = slices[:, None] + torch.arange(-margin, margin + 1, device=weight.device)  # [d, k]
    inside = ((inside >= 0) & (inside < depth)).to(weight.dtype)
    summed = torch.einsum("ofkyx,dk->odfyx", weight[:, channels:], inside).flatten(0, 1)
    seen = functional.conv2d(flat, summed, padding=margin).unflatten(1, (-1, depth))
    return functional.conv3d(volume, weight[:, :channels], bias, padding=margin) + seen


def grown(mask: Tensor) -> Tensor:
    """The largest value within the margin of every cell; beyond the edge the mask is mirrored. [b, 1, h, w]."""
    padded = functional.pad(mask, (_MASK_MARGIN,) * 4, mode="reflect")
    return functional.max_pool2d(padded, 2 * _MASK_MARGIN + 1, stride=1)


def _resize(picture: Tensor, side: int) -> Tensor:
    return functional.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False)
