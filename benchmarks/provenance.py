"""What the marks cost and survive: ``python benchmarks/provenance.py [video ...]`` prints ms per frame and PSNR.

Without arguments: a real photograph (scikit-image's astronaut) that sways, and the evaluation clips beside the
repository where they are present.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from triportrait.provenance.label import draw_label
from triportrait.provenance.manifest import read_manifest, sign_video
from triportrait.provenance.watermark import Watermarker, detect_watermark

FRAMES = 25
PAYLOAD = 0xBEEF
CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
Frames = list[np.ndarray]


def milliseconds(function: Callable[[], object], repeats: int = 60) -> float:
    """Median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def swaying_photograph() -> Frames:
    from skimage.data import astronaut

    frames = []
    for angle in np.linspace(0, 2 * np.pi, FRAMES):
        matrix = cv2.getRotationMatrix2D((256, 300), 2 * np.sin(angle), 1.1 + 0.02 * np.cos(angle))
        frames.append(cv2.warpAffine(astronaut(), matrix, (512, 512), borderMode=cv2.BORDER_REFLECT))
    return frames


def read(path: Path) -> Frames:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(FRAMES), strict=False)]


def encode(frames: Frames, crf: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def decoded(frames: Frames, crf: int) -> Frames:
    with av.open(io.BytesIO(encode(frames, crf))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def print_costs() -> None:
    for size in ((256, 256), (512, 512), (1024, 1024), (1920, 1080)):
        frame = cv2.resize(swaying_photograph()[0], size)
        watermarker = Watermarker(size, PAYLOAD)
        print(
            f"{size[0]:>5} x {size[1]:<5} label {milliseconds(lambda f=frame: draw_label(f)):6.3f} ms   "
            f"watermark {milliseconds(lambda f=frame, w=watermarker: w.apply(f)):6.2f} ms   "
            f"detect {milliseconds(lambda f=frame: detect_watermark([f] * 9, search_crops=False), 5) / 9:6.2f} ms/frame"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        plain = encode(swaying_photograph(), 23)
        path.write_bytes(plain)
        sign_video(path, {"portrait": "00" * 32}, "benchmark", key_folder=Path(folder) / "keys")
        added = path.stat().st_size - len(plain)

        def sign() -> None:
            path.write_bytes(plain)
            sign_video(path, {"portrait": "00" * 32}, "benchmark", key_folder=Path(folder) / "keys")

        print(f"manifest: sign {milliseconds(sign, 9):.1f} ms, {added} bytes more", end=", ")
        print(f"read {milliseconds(lambda: read_manifest(path, Path(folder) / 'keys'), 9):.1f} ms")


def print_survival(name: str, frames: Frames) -> None:
    height, width = frames[0].shape[:2]
    watermarker = Watermarker((width, height), PAYLOAD)
    marked = [watermarker.apply(frame) for frame in frames]
    error = np.mean([(a.astype(np.float32) - b) ** 2 for a, b in zip(frames, marked, strict=True)])
    half = [cv2.resize(f, (width // 4 * 2, height // 4 * 2), interpolation=cv2.INTER_AREA) for f in marked]
    cells = [f"{name[:20]:20}", f"{10 * np.log10(255**2 / error):5.1f} dB"]
    for label, after in (
        ("crf 18", decoded(marked, 18)),
        ("23", decoded(marked, 23)),
        ("28", decoded(marked, 28)),
        ("33", decoded(marked, 33)),
        ("half 23", decoded(half, 23)),
        ("half 28", decoded(half, 28)),
        ("unmarked", frames),
    ):
        seen = detect_watermark(after, search_crops=False)
        verdict = "none" if not seen.found else "ok" if seen.payload == PAYLOAD else "mark only"
        cells.append(f"{label}: {verdict} {seen.score:.1f}/{seen.payload_score:.1f}")
    print("  ".join(cells))


if __name__ == "__main__":
    cv2.setNumThreads(1)
    print_costs()
    print("score of mark / payload in standard deviations (found from 6.5, payload read from 6.2)")
    paths = [Path(name) for name in sys.argv[1:]] or sorted(CLIPS.glob("*.mp4"))
    if len(sys.argv) == 1:
        print_survival("astronaut, swaying", swaying_photograph())
    for video in paths:
        print_survival(video.stem, read(video))
