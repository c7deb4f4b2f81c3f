"""A weighted mean of two voice networks of the same sizes, of which one was trained on from the other.

``python scripts/blend_voices.py BEFORE AFTER --share 0.5 -o OUT.safetensors``

The mean keeps more of what the network knew before than the end of the training does. Source: M. Wortsman et al., "Robust fine-tuning of
zero-shot models", 2022, equation 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triportrait.motion.audio_network import load_model, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of AFTER, 0 to 1")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    before, after = load_model(options.before), load_model(options.after)
    first, second = before.state_dict(), after.state_dict()
    after.load_state_dict({name: (1 - options.share) * first[name] + options.share * second[name] for name in second})
    save_model(after, options.out)


if __name__ == "__main__":
    main()
