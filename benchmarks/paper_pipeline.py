"""The paper's whole pipeline at full size, as a user with the published files would run it: import them, animate a photograph by a voice.

    python benchmarks/paper_pipeline.py [--seconds 2] [--threads 2] [--batch 1] [--out out.mp4] [--work FOLDER]

All that belongs to others is made up: checkpoints of the published layouts with random numbers, a face model with the real number of
vertices, HuBERT-large with random weights. The video is noise; what is shown is that every part runs, what it takes, and that a video
comes out. About 7 CPU minutes, 6 GB of disk in FOLDER (a temporary one unless it is given; the files in it are used again).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_COMMAND = "from triportrait.cli import main; raise SystemExit(main())"


def plausible(layout: str, seed: int = 0) -> dict:
    """A state dict of a published layout whose activations stay of order one: weights by their fan-in, norms at rest."""
    import torch

    from triportrait.weights.tables import key_table

    table, generator = key_table(layout), torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for key, shape in table.shapes.items():
        name = key.rpartition(".")[2]
        # EG3D's layers are equalised: they scale unit weights themselves.
        unit = any(part in key for part in ("decoder.net", "prenet", "affine", "torgb", ".block0.", ".block1.", "head_torso_block"))
        if key in table.integers:
            state[key] = torch.zeros(shape, dtype=torch.int64)
        elif name in ("running_var", "weight_g") or (name == "weight" and len(shape) == 1) or key.endswith("affine.bias"):
            state[key] = torch.ones(shape)
        elif len(shape) < 2:
            state[key] = 0.05 * torch.randn(shape, generator=generator)
        else:
            fan_in = 1 if unit and "vit" not in key else torch.Size(shape[1:]).numel()
            state[key] = torch.randn(shape, generator=generator) * (1.4 / fan_in**0.5)
    for key in [key for key in state if key.endswith("weight_orig")]:
        # Spectral norm divides by u W v: the vectors must belong to the weight.
        weight, left = state[key].flatten(1), key.removesuffix("orig") + "u"
        u = torch.nn.functional.normalize(state[left], dim=0)
        for _ in range(5):
            v = torch.nn.functional.normalize(weight.T @ u, dim=0)
            u = torch.nn.functional.normalize(weight @ v, dim=0)
        state[left], state[key.removesuffix("orig") + "v"] = u, v
    return state


def make_up(folder: Path) -> None:
    """What its authors publish and a user downloads, below ``folder``."""
    import torch
    import transformers

    from bfm_samples import synthetic_bfm
    from triportrait.drivers import default_head
    from weights_samples import published

    for layout, steps in (("real3d_torso", 100_000), ("real3d_a2m", 400_000)):
        (folder / layout).mkdir(parents=True, exist_ok=True)
        published(folder / layout / f"model_ckpt_steps_{steps}.ckpt", plausible(layout))
    synthetic_bfm(folder / "bfm", default_head(), vertices=35_709)
    torch.manual_seed(0)
    large = transformers.HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    transformers.HubertModel(large).save_pretrained(folder / "hubert", safe_serialization=True)


def run(*arguments: object, threads: int, home: Path) -> tuple[float, float, float]:
    """A command of triportrait: wall and CPU seconds, peak memory in MB. It fails loudly."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TRIPORTRAIT_HOME": str(home),
        "PYTHONPATH": str(ROOT / "src"),
    }
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", _COMMAND, *map(str, arguments)], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"triportrait {' '.join(map(str, arguments))} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--photo", type=Path, default=ROOT / "examples" / "portrait.png")
    parser.add_argument("--voice", type=Path, default=ROOT / "examples" / "speech.wav")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        home, made, out = work / "home", work / "published", options.out or work / "out.mp4"
        rows: list[tuple[str, tuple[float, float, float]]] = []
        if not (home / "weights").is_dir():
            # In a process of its own, whose memory does not count.
            subprocess.run([sys.executable, __file__, "--make-up", str(made)], check=True)
            rows.append(("weights import", run("weights", "import", made, threads=options.threads, home=home)))
        import soundfile

        samples, rate_hz = soundfile.read(options.voice)
        soundfile.write(work / "voice.wav", samples[: round(options.seconds * rate_hz)], rate_hz)
        extra = ("--device", options.device, "--precision", options.precision, "--batch", options.batch)
        command = ("animate", options.photo, "--audio", work / "voice.wav", "-o", out, "--preset", "paper", *extra)
        rows.append(("animate", run(*command, threads=options.threads, home=home)))

        from triportrait.media.video import VideoReader

        with VideoReader(out) as reader:
            pictures = [picture for _, picture in reader.frames(None)]
        height, width = pictures[0].shape[:2]
        print(f"{len(pictures)} frames of {width} x {height} px, {options.threads} threads, batch {options.batch}")
        print(f"{'command':18}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}")
        for name, (wall, cpu, peak) in rows:
            print(f"{name:18}{wall:9.1f}{cpu:9.1f}{peak:9.0f}")
        print(f"load {os.getloadavg()[0]:.1f}, this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
        if (width, height) != (512, 512) or abs(len(pictures) - 25 * options.seconds) > 4:
            sys.exit("that is not the video that was asked for")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make-up"]:
        sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
        make_up(Path(sys.argv[2]))
    else:
        main()
