"""What drives a personal avatar, as five tokens: voice, lids, rest, head rotation, landmarks (Talk3D, Ko et al., 2024; spec A.4).

Every place of the head attends to these tokens and so chooses its driver. The token of rest is the same for every frame: what does not
move attends to it.
Legend: b batch, w entries of a speech window, t rows of an entry, c width of a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.frequency import FrequencyMlp

#: Of the leaky ReLUs in the speech networks.
SLOPE = 0.02


class SpeechEncoder(nn.Module):
    """Short pieces of speech features to one vector each, as AD-NeRF has it (Guo et al., 2021).

    Args:
        features: numbers of a row, for instance the classes of a speech recogniser.
        width: of the result.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        widths = (features, width // 2, width // 2, width, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """[..., features, 16] -> [..., width]."""
        x = features.flatten(0, -3)
        for convolution in self.convolutions:
            x = functional.leaky_relu(convolution(x), SLOPE)
        x = functional.leaky_relu(self.hidden(x.squeeze(-1)), SLOPE)
        return self.out(x).unflatten(0, features.shape[:-2])


class WindowAttention(nn.Module):
    """The vectors of neighbouring frames to one, weighted by what they hold: [b, w, c] -> [b, c] (AD-NeRF, after Thies et al., 2020)."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        widths = (width, 16, 8, 4, 2, 1)
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.weights = nn.Linear(window, window)

    def forward(self, vectors: Tensor) -> Tensor:
        x = vectors.transpose(1, 2)
        for convolution in self.convolutions:
            x = functional.leaky_relu(convolution(x), SLOPE)
        weights = self.weights(x).softmax(-1)  # [b, 1, w]
        return (weights @ vectors).squeeze(1)


class PersonalTokens(nn.Module):
    """The encoders of all tokens."""

    @dataclass(frozen=True)
    class Config:
        """Sizes, as published.

        Args:
            speech_features: numbers of a speech row (44 logits of the published recogniser); an entry has 16 rows.
            window: entries around a frame, the frame's own the fifth of the eight.
            width: of a token.
            lid_octaves, rotation_octaves, landmark_octaves: frequencies of the encodings.
            landmarks: points of the face, two numbers each.
        """

        speech_features: int = 44
        window: int = 8
        width: int = 64
        lid_octaves: int = 16
        rotation_octaves: int = 10
        landmark_octaves: int = 6
        landmarks: int = 3

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.speech = SpeechEncoder(config.speech_features, config.width)
        self.speech_attention = WindowAttention(config.width, config.window)
        self.lids = FrequencyMlp(1, config.lid_octaves, config.width)
        self.rotation = FrequencyMlp(3, config.rotation_octaves, config.width)
        self.landmarks = FrequencyMlp(2 * config.landmarks, config.landmark_octaves, config.width)
        self.rest = nn.Parameter(torch.randn(config.width))

    def forward(self, speech: Tensor, lids: Tensor, rotation_deg: Tensor, landmarks: Tensor) -> Tensor:
        """One frame's drivers to tokens.

        Args:
            speech: [b, w, features, 16]; zeros stand for what lies before or after the sound.
            lids: [b] strength of a blink, AU45 of OpenFace clipped to 0..2.
            rotation_deg: [b, 3] pitch, yaw, roll of the head.
            landmarks: [b, landmarks, 2] nose tip, outer corner of the left and of the right eye in -1..1 of the whole picture.

        Returns:
            [b, 5, width] in the order of the module's headline.
        """
        voice = self.speech_attention(self.speech(speech))
        rest = self.rest.expand_as(voice)
        return torch.stack((voice, self.lids(lids[:, None]), rest, self.rotation(rotation_deg), self.landmarks(landmarks.flatten(1))), 1)
