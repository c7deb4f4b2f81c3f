"""Synthesise examples/speech.wav with festival's freely usable HTS voice cmu_us_slt (apt: festival festvox-us-slt-hts).

python scripts/synthesise_demo_speech.py --out examples/speech.wav
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

SENTENCES = (
    "Hello, I am a picture made by TriPortrait. Give me a photo and a bit of speech, "
    "and my lips move, my eyes blink, and people believe me."
)
RATE_HZ = 16000
LEVEL_DBFS = -20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "examples" / "speech.wav")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "speech.wav"
        command = ["text2wave", "-eval", "(voice_cmu_us_slt_arctic_hts)", "-o", str(raw)]
        subprocess.run(command, input=SENTENCES.encode(), check=True)
        samples, rate = soundfile.read(raw)
    samples = soxr.resample(samples, rate, RATE_HZ)
    samples = samples * 10.0 ** (LEVEL_DBFS / 20.0) / np.sqrt(np.mean(samples**2))
    if np.abs(samples).max() >= 1.0:
        raise SystemExit("the normalised speech would clip; lower LEVEL_DBFS")
    soundfile.write(out, samples, RATE_HZ, subtype="PCM_16")
    print(f"{out}: {len(samples) / RATE_HZ:.1f} s, peak {np.abs(samples).max():.2f}")


if __name__ == "__main__":
    main()
