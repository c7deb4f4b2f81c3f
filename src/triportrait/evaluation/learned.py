"""Metrics by networks: perceptual distance, Fréchet distance of features, likeness of faces, lip-sync errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from triportrait.evaluation.metrics import unit
from triportrait.types import Array

if TYPE_CHECKING:
    import torch

    from triportrait.evaluation.networks import InceptionFeatures, IResNet, Lpips, SyncNet


#: Where ArcFace wants (right eye, left eye, nose, mouth's corners) in its 112 x 112 picture, image left first.
ARCFACE_POINTS = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
#: The same in MediaPipe's points: centres of the eyes (mean of the corners), nose tip, corners of the mouth.
_FIVE_POINTS = ((33, 133), (362, 263), (4,), (61,), (291,))

#: SyncNet's offsets looked at, to both sides, in frames (as the LSE figures of Wav2Lip).
LARGEST_SHIFT = 15
_BATCH = 16


def _tensor(pictures: Sequence[Array]) -> torch.Tensor:
    """uint8 or float pictures [h, w, 3] -> float32 [b, 3, h, w] in 0..1."""
    import torch

    return torch.from_numpy(np.stack([unit(picture) for picture in pictures]).transpose(0, 3, 1, 2).copy())


def lpips(network: Lpips, made: Sequence[Array], real: Sequence[Array], counted: Array | None = None) -> float:
    """Mean perceptual distance of pairs of pictures; pixels outside ``counted`` bool [h, w] are grey in both."""
    import torch

    values: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(made), _BATCH):
            first, second = (2.0 * _tensor(row[start : start + _BATCH]) - 1.0 for row in (made, real))
            if counted is not None and not counted.all():
                inside = torch.from_numpy(counted)
                first, second = first * inside, second * inside
            values += network(first, second).tolist()
    return float(np.mean(values)) if values else float("nan")


def inception_features(network: InceptionFeatures, pictures: Sequence[Array]) -> Array:
    """float32 [n, 2048] of pictures."""
    import torch

    with torch.inference_mode():
        parts = [network(_tensor(pictures[start : start + _BATCH])) for start in range(0, len(pictures), _BATCH)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, 2048), np.float32)


def frechet_distance(first: Array, second: Array) -> float:
    """Fréchet distance between the Gaussians of two sets of features [n, d] and [m, d]; NaN below two rows.

    The trace of the matrix root is the nuclear norm of the centred sets' product, which is exact and needs no d x d root.
    Source: M. Heusel et al., "GANs trained by a two time-scale update rule ...", NeurIPS 2017.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean_gap = np.square(x.mean(0) - y.mean(0)).sum()
    x, y = (x - x.mean(0)) / np.sqrt(len(x) - 1), (y - y.mean(0)) / np.sqrt(len(y) - 1)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(mean_gap + np.square(x).sum() + np.square(y).sum() - 2.0 * root)


def align_face(
    picture: Array,
    landmarks: Array,
    indices: Sequence[tuple[int, ...]] = _FIVE_POINTS,
    places: Array = ARCFACE_POINTS + 0.5,
    size_px: int = 112,
) -> Array:
    """The face of a picture as a recognition network wants it, from its landmarks [478, 2] in pixels.

    Args:
        picture, landmarks: of the face.
        indices: landmarks (means of several) that are brought to ``places`` [n, 2], pixel centres at +0.5, by a similarity; as ArcFace
            wants them by default.
        size_px: side of the result.
    """
    import cv2

    from triportrait.evaluation.baselines import fit_similarity

    points = np.stack([landmarks[list(each)].mean(0) for each in indices])
    found = fit_similarity(points, places)
    turned = found.scale * found.rotation
    # Points count pixel centres at +0.5, OpenCV at whole numbers.
    shift = found.translation + turned @ (0.5, 0.5) - 0.5
    side = (size_px, size_px)
    return cv2.warpAffine(picture, np.column_stack([turned, shift]), side, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def identity_embeddings(network: IResNet, pictures: Sequence[Array], landmarks: Array) -> Array:
    """Unit vectors float32 [n, 512] of the faces at ``landmarks`` [n, 478, 2]."""
    import torch

    faces = [align_face(picture, points) for picture, points in zip(pictures, landmarks, strict=True)]
    with torch.inference_mode():
        parts = [network(2.0 * _tensor(faces[start : start + _BATCH]) - 1.0) for start in range(0, len(faces), _BATCH)]
        rows = torch.cat(parts) if parts else torch.zeros(0, 512)
        return torch.nn.functional.normalize(rows, dim=1).numpy()


# -- lip-sync errors ------------------------------------------------------------------------------------------------------


def cepstra(samples: Array, rate_hz: int = 16_000) -> Array:
    """Mel-frequency cepstra [t, 13] at 100 rows a second, as SyncNet was trained on.

    25 ms windows without taper every 10 ms, pre-emphasis 0.97, 512-point power spectra, 26 triangles from 0 to half the
    rate, orthonormal DCT-II, lifter 22, log energy in column 0; samples in 16-bit units (the defaults of
    ``python_speech_features``).

    Args:
        samples: float [n] in -1..1.
        rate_hz: 16,000.
    """
    from scipy.fft import dct

    sound = np.round(np.asarray(samples, np.float64) * 32767.0)
    sound = np.append(sound[:1], sound[1:] - 0.97 * sound[:-1])
    window, step, size = round(0.025 * rate_hz), round(0.01 * rate_hz), 512
    rows = 1 if len(sound) <= window else 1 + -(-(len(sound) - window) // step)
    padded = np.zeros((rows - 1) * step + window)
    padded[: min(len(sound), len(padded))] = sound[: len(padded)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::step]
    power = np.square(np.abs(np.fft.rfft(frames, size))) / size
    tiny = np.finfo(float).eps
    energy = power.sum(axis=1)

    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + rate_hz / 2 / 700.0), 28)
    bins = np.floor((size + 1) * 700.0 * (10.0 ** (mel / 2595.0) - 1.0) / rate_hz)
    at = np.arange(size // 2 + 1)[None]
    low, middle, high = (bins[i : i + 26, None] for i in range(3))
    rising = np.where((at >= low) & (at < middle), (at - low) / np.maximum(middle - low, 1.0), 0.0)
    falling = np.where((at >= middle) & (at < high), (high - at) / np.maximum(high - middle, 1.0), 0.0)
    bands = power @ (rising + falling).T
    result = dct(np.log(np.where(bands == 0, tiny, bands)), type=2, axis=1, norm="ortho")[:, :13]
    result *= 1.0 + 11.0 * np.sin(np.pi * np.arange(13) / 22.0)
    result[:, 0] = np.log(np.where(energy == 0, tiny, energy))
    return result


class LipStream:
    """SyncNet's rows of a video, fed picture by picture; only the last few faces are held.

    The face's square reaches 1.4 times its half side to the left, right, and half a side more below, as in SyncNet's own
    preparation; its place is the median over the last 13 frames (theirs is centred).
    """

    def __init__(self, network: SyncNet) -> None:
        self._network = network
        self._boxes: deque[tuple[float, float, float]] = deque(maxlen=13)
        self._faces: list[Array] = []
        self._rows: list[Array] = []

    def push(self, picture: Array, landmarks: Array) -> None:
        """The next picture uint8 RGB [h, w, 3] with its landmarks [478, 2] in pixels."""
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        self._boxes.append((*(0.5 * (low + high)), 0.5 * float((high - low).max())))
        x, y, half = np.median(np.array(self._boxes), axis=0)
        self._faces.append(_face_square(picture, x, y, half))
        if len(self._faces) == _BATCH + 4:
            self._run()

    def finish(self) -> Array:
        """float32 [t - 4, 1024]: one row per run of five frames."""
        if len(self._faces) >= 5:
            self._run()
        return np.concatenate(self._rows) if self._rows else np.zeros((0, 1024), np.float32)

    def _run(self) -> None:
        import torch

        # SyncNet was trained on OpenCV's order of colours, in 0..255.
        faces = np.stack(self._faces)[..., ::-1].transpose(3, 0, 1, 2).astype(np.float32)
        windows = np.stack([faces[:, start : start + 5] for start in range(faces.shape[1] - 4)])
        with torch.inference_mode():
            self._rows.append(self._network.lips(torch.from_numpy(windows)).numpy())
        self._faces = self._faces[-4:]


def _face_square(picture: Array, x: float, y: float, half: float) -> Array:
    """224 x 224 round a face's middle: from ``half`` above it to 1.8 times as much below, outside grey 110."""
    import cv2

    scale = 224.0 / (2.8 * half)
    matrix = np.array([[scale, 0.0, 112.0 - x * scale], [0.0, scale, -(y - half) * scale]])
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(picture, matrix, (224, 224), flags=filter_, borderMode=cv2.BORDER_CONSTANT, borderValue=(110, 110, 110))


def sound_rows(network: SyncNet, samples: Array, rows: int) -> Array:
    """SyncNet's rows [rows, 1024] of 16 kHz sound, one per video frame at 25 per second (fewer when the sound is shorter)."""
    import torch

    mfcc = cepstra(samples).T.astype(np.float32)
    rows = max(0, min(rows, (mfcc.shape[1] - 20) // 4 + 1))
    parts = []
    with torch.inference_mode():
        for start in range(0, rows, _BATCH):
            windows = np.stack([mfcc[:, 4 * i : 4 * i + 20] for i in range(start, min(rows, start + _BATCH))])
            parts.append(network.sound(torch.from_numpy(windows[:, None])).numpy())
    return np.concatenate(parts) if parts else np.zeros((0, 1024), np.float32)


def lip_sync_errors(lips: Array, sound: Array) -> dict[str, float]:
    """LSE-D, LSE-C and the offset of rows [t, 1024] of lips and of sound (K. R. Prajwal et al., ACM MM 2020).

    Distances to the sound at every shift up to 15 frames are averaged over the clip: ``lse_d`` is the smallest mean,
    ``lse_c`` the median mean less the smallest, ``offset`` the shift in frames (positive: the sound comes early). NaN
    without rows.
    """
    count = min(len(lips), len(sound))
    if not count:
        return {"lse_d": float("nan"), "lse_c": float("nan"), "offset": float("nan")}
    padded = np.pad(sound[:count], ((LARGEST_SHIFT, LARGEST_SHIFT), (0, 0)))
    # torch's pairwise_distance adds 1e-6 to every difference.
    means = np.array(
        [np.linalg.norm(lips[:count] - padded[shift : shift + count] + 1e-6, axis=1).mean() for shift in range(2 * LARGEST_SHIFT + 1)]
    )
    best = int(means.argmin())
    return {"lse_d": float(means[best]), "lse_c": float(np.median(means) - means[best]), "offset": float(LARGEST_SHIFT - best)}
