"""Real3D-Portrait's audio-to-motion model: speech features and pitch to expression coefficients by a flow-enhanced VAE (paper section 4.3).

Legend: b batch, t motion rows at 25 Hz, 2 t audio rows at 50 Hz, c channels. t is a multiple of 4, the stride of the latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from triportrait.nn.flow import CouplingFlow
from triportrait.nn.wavenet import WaveNet

#: Motion rows per latent row, and audio rows per motion row.
LATENT_STRIDE = 4
AUDIO_STRIDE = 2

#: Rows of the pitch table: 0 for padding, 1 unvoiced or lowest, 255 highest; the published table has room for 300.
_PITCH_ROWS = 300
_PITCH_RANGE_HZ = (50.0, 1100.0)


def _mel(frequency_hz: float) -> float:
    return 1127.0 * math.log1p(frequency_hz / 700.0)


def pitch_bins(f0_hz: torch.Tensor) -> torch.Tensor:
    """Pitch in Hz (0 where unvoiced) to table rows 1..255 on the mel scale, int64 of the same shape."""
    low, high = (_mel(frequency) for frequency in _PITCH_RANGE_HZ)
    mel = 1127.0 * torch.log1p(f0_hz / 700.0)
    scaled = torch.where(mel > 0, (mel - low) * 254.0 / (high - low) + 1.0, mel)
    return scaled.clamp(1.0, 255.0).round().long()


def kl_divergence(
    mean: torch.Tensor, log_std: torch.Tensor, posterior: torch.Tensor, prior: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """One-sample KL divergence between the posterior and the flow's prior, per latent number.

    Args:
        mean, log_std: [b, c, t] of the posterior.
        posterior: [b, c, t] sample drawn from it.
        prior: [b, c, t] the same sample after the flow.
        mask: [b, 1, t], 1 where a row is real; None when all are.
    """
    log_posterior = -log_std - 0.5 * ((posterior - mean) * torch.exp(-log_std)) ** 2
    log_prior = -0.5 * prior**2
    difference = log_posterior - log_prior
    if mask is None:
        return difference.mean()
    return (difference * mask).sum() / (mask.sum() * difference.shape[1])


class ConvolutionalEncoder(nn.Module):
    """Two convolutions over time with a batch norm and GELU between: [b, t, c_in] -> [b, t, c_out]."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm1d(channels_out),
            nn.GELU(),
            nn.Conv1d(channels_out, channels_out, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.transpose(1, 2)).transpose(1, 2)


class PaperAudioToMotion(nn.Module):
    """Speech features, pitch, blinks and mouth amplitude -> expression coefficients."""

    @dataclass(frozen=True)
    class Config:
        """Sizes of the published model; the paper's text names ``hidden`` 192.

        Args:
            features: width of a speech feature row (HuBERT-large).
            motion: expression coefficients.
            condition: width of the condition.
            hidden: width of encoder and decoder.
            latent: numbers per latent row.
            amplitudes: which amplitudes the model was trained to follow, of ``"mouth"`` and ``"eye"``, in this order.
            encoder_layers, decoder_layers, kernel: their WaveNets; ``encoder_layers`` 0 leaves the encoder out (it only serves training).
            flow_steps, flow_hidden, flow_layers, flow_kernel: the prior flow.
            trained_form: with weight norms, as the authors trained it; imported weights have them multiplied in.
        """

        features: int = 1024
        motion: int = 64
        condition: int = 128
        hidden: int = 256
        latent: int = 16
        amplitudes: tuple[str, ...] = ("mouth",)
        encoder_layers: int = 8
        decoder_layers: int = 4
        kernel: int = 5
        flow_steps: int = 4
        flow_hidden: int = 64
        flow_layers: int = 4
        flow_kernel: int = 3
        trained_form: bool = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.condition, config.hidden
        self.speech_encoder = ConvolutionalEncoder(config.features, width)
        self.pitch_table = nn.Embedding(_PITCH_ROWS, width)
        self.pitch_encoder = ConvolutionalEncoder(width, width)
        self.blink_table = nn.Embedding(2, width)
        self.amplitudes = nn.ParameterDict({name: nn.Parameter(torch.randn(width)) for name in config.amplitudes})
        self.condition = nn.Linear((3 + len(config.amplitudes)) * width, width)

        stride = LATENT_STRIDE
        self.squeeze = nn.Conv1d(width, width, 2 * stride, stride=stride, padding=stride // 2)
        if config.encoder_layers:
            self.encoder_in = nn.Conv1d(config.motion, hidden, 2 * stride, stride=stride, padding=stride // 2)
            self.encoder = WaveNet(WaveNet.Config(hidden, width, config.encoder_layers, config.kernel, config.trained_form))
            self.encoder_out = nn.Conv1d(hidden, 2 * config.latent, 1)
        flow_net = WaveNet.Config(config.flow_hidden, width, config.flow_layers, config.flow_kernel, config.trained_form)
        self.flow = CouplingFlow(CouplingFlow.Config(config.latent, config.flow_steps, flow_net))
        self.decoder_in = nn.ConvTranspose1d(config.latent, hidden, stride, stride=stride)
        self.decoder = WaveNet(WaveNet.Config(hidden, width, config.decoder_layers, config.kernel, config.trained_form))
        self.decoder_out = nn.Conv1d(hidden, config.motion, 1)

    def conditions(self, features: torch.Tensor, f0_hz: torch.Tensor, blink: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
        """All that steers the motion, at 25 Hz.

        Args:
            features: [b, 2 t, f] speech features.
            f0_hz: [b, 2 t] pitch, 0 where unvoiced.
            blink: [b, 2 t] int64, 1 where the eyes shut.
            amplitudes: [b, a] one number per name in ``config.amplitudes``.

        Returns:
            [b, t, c]. Of the audio rows the even ones are used, as published.

        Raises:
            ValueError: the number of audio rows is not a multiple of 8.
        """
        rows = features.shape[1]
        if rows % (AUDIO_STRIDE * LATENT_STRIDE):
            raise ValueError(f"features have {rows} rows, expected a multiple of {AUDIO_STRIDE * LATENT_STRIDE}; pad them")
        speech = self.speech_encoder(features[:, ::AUDIO_STRIDE])
        pitch = self.pitch_encoder(self.pitch_table(pitch_bins(f0_hz[:, ::AUDIO_STRIDE])))
        parts = [speech, pitch, self.blink_table(blink[:, ::AUDIO_STRIDE])]
        for name, amplitude in zip(self.config.amplitudes, amplitudes.unbind(1), strict=True):
            parts.append((amplitude[:, None, None] * self.amplitudes[name]).expand_as(speech))
        return self.condition(torch.cat(parts, dim=-1))

    def encode(self, motion: torch.Tensor, conditions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Motion [b, t, m] and conditions [b, t, c] -> mean and log standard deviation [b, latent, t / 4]; for training."""
        x = self.encoder(self.encoder_in(motion.transpose(1, 2)), self.squeezed(conditions))
        mean, log_std = self.encoder_out(x).chunk(2, dim=1)
        return mean, log_std

    def decode(self, latent: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        """Posterior sample [b, latent, t / 4] and conditions [b, t, c] -> motion [b, t, m]."""
        return self.decoder_out(self.decoder(self.decoder_in(latent), conditions.transpose(1, 2))).transpose(1, 2)

    def squeezed(self, conditions: torch.Tensor) -> torch.Tensor:
        """Conditions [b, t, c] at the latent's rate, [b, c, t / 4]."""
        return self.squeeze(conditions.transpose(1, 2))

    def forward(
        self, features: torch.Tensor, f0_hz: torch.Tensor, blink: torch.Tensor, amplitudes: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """Motion [b, t, m]; arguments as in :meth:`conditions`, and ``noise`` [b, latent, t / 4], normal times the temperature."""
        conditions = self.conditions(features, f0_hz, blink, amplitudes)
        return self.decode(self.flow.inverse(noise, self.squeezed(conditions)), conditions)
