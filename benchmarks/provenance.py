"""What the marks cost: ``python benchmarks/provenance.py`` prints ms per frame and per file. What they survive: marks.py."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from skimage.data import astronaut

from triportrait.provenance.label import draw_label
from triportrait.provenance.manifest import read_manifest, sign_video
from triportrait.provenance.reading import detect_watermark
from triportrait.provenance.watermark import Watermarker

PAYLOAD = 0xDEADBEEF


def milliseconds(function: Callable[[], object], repeats: int = 60) -> float:
    """Median time of a call, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def encode(frames: list[np.ndarray], crf: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def print_costs() -> None:
    """Label, watermark and detector for each frame; the manifest for each file."""
    for size in ((256, 256), (512, 512), (1024, 1024), (1920, 1080)):
        frame = cv2.resize(astronaut(), size)
        watermarker = Watermarker(size, PAYLOAD)
        print(
            f"{size[0]:>5} x {size[1]:<5} label {milliseconds(lambda f=frame: draw_label(f)):6.3f} ms   "
            f"watermark {milliseconds(lambda f=frame, w=watermarker: w.apply(f)):6.2f} ms   "
            f"detect {milliseconds(lambda f=frame: detect_watermark([f] * 9, search=False), 5) / 9:6.2f} ms/frame"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        plain = encode([astronaut()] * 25, 23)
        path.write_bytes(plain)
        sign_video(path, {"portrait": "00" * 32}, "benchmark", key_folder=Path(folder) / "keys")
        added = path.stat().st_size - len(plain)

        def sign() -> None:
            path.write_bytes(plain)
            sign_video(path, {"portrait": "00" * 32}, "benchmark", key_folder=Path(folder) / "keys")

        print(f"manifest: sign {milliseconds(sign, 9):.1f} ms, {added} bytes more", end=", ")
        print(f"read {milliseconds(lambda: read_manifest(path, Path(folder) / 'keys'), 9):.1f} ms")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    print_costs()
