"""Join trained networks into one file: ``python scripts/join_audio_to_motion.py A.safetensors B.safetensors --out FILE``.

The first has to listen to log-mel features and the second to envelopes (see ``speech_features.PairedLogMel``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triportrait.motion.audio_network import AudioToMotionEnsemble, load_model, save_model
from triportrait.motion.speech_features import EXTRACTORS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("members", type=Path, nargs=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    joined = AudioToMotionEnsemble([load_model(path) for path in options.members])
    if joined.config.extractor not in EXTRACTORS:
        raise SystemExit(f"no extractor gives {joined.config.extractor}; give the log-mel network first")
    save_model(joined, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
