"""Write the key tables of ``triportrait/weights/keys`` from the key lists of the golden outputs.

    python scripts/build_key_tables.py tests/golden/keys src/triportrait/weights/keys

A key table states which tensors a published checkpoint holds: name, shape, and whether it is trained (a parameter) or
only carried along (a buffer). Names and shapes are facts about a file layout; no weights are contained.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

#: What of the published configuration decides the architecture (spec 1.3); the rest concerns training.
REAL3D_CONFIG = (
    "neural_rendering_resolution",
    "final_resolution",
    "w_dim",
    "triplane_depth",
    "triplane_feature_type",
    "triplane_hid_dim",
    "img2plane_backbone_scale",
    "secc_segformer_scale",
    "pncc_cond_mode",
    "phase1_plane_fusion_mode",
    "sr_type",
    "num_samples_coarse",
    "num_samples_fine",
    "box_warp",
    "ray_near",
    "ray_far",
)
TORSO_CONFIG = (
    "torso_model_version",
    "torso_inp_mode",
    "torso_kp_num",
    "torso_ref_segout_mode",
    "weight_fuse",
    "htbsr_head_weight_fuse_mode",
    "htbsr_head_threshold",
)
A2M_CONFIG = (
    "audio_type",
    "motion_type",
    "use_pitch",
    "use_flow",
    "use_eye_amp_embed",
    "use_mouth_amp_embed",
    "hidden_size",
)

#: EG3D's list names no kinds: these endings are its buffers.
EG3D_BUFFERS = ("resample_filter", "noise_const", "w_avg", "dataset_label_std")

#: Talk3D's list names no kinds either; the position embedding is a parameter that is not trained.
TALK3D_BUFFERS = ("resample_filter", "running_mean", "running_var", "num_batches_tracked", "pos_emb")


def real3d_table(source: Path, layout: str, config: tuple[str, ...]) -> dict:
    listed = json.loads(source.read_text(encoding="utf-8"))
    keys = listed["keys"]
    return {
        "layout": layout,
        "class": listed["meta"]["class"],
        "config": {name: listed["meta"]["hparams"][name] for name in config},
        "parameters": {key: entry["shape"] for key, entry in keys.items() if entry["kind"] == "param"},
        "buffers": {key: entry["shape"] for key, entry in keys.items() if entry["kind"] != "param"},
        "integers": [key for key, entry in keys.items() if entry["dtype"] == "int64"],
        "optional": [],
    }


def eg3d_table(source: Path, layout: str, module: str) -> dict:
    keys = json.loads(source.read_text(encoding="utf-8"))[module]
    config = {"img_resolution": 512, "neural_rendering_resolution": 128, "plane_layout": "eg3d_original"} if module == "G" else {}
    return {
        "layout": layout,
        "class": "TriPlaneGenerator" if module == "G" else "DualDiscriminator",
        "config": config,
        "parameters": {key: shape for key, shape in keys.items() if not key.endswith(EG3D_BUFFERS)},
        "buffers": {key: shape for key, shape in keys.items() if key.endswith(EG3D_BUFFERS)},
        "integers": [],
        # Talk3D's tuned generators hold it, NVIDIA's need not.
        "optional": [key for key in keys if key == "dataset_label_std"],
    }


def talk3d_table(source: Path) -> dict:
    networks = json.loads(source.read_text(encoding="utf-8"))
    keys = {f"{network}.{key}": shape for network, shapes in networks.items() for key, shape in shapes.items()}
    keys["null_vector"] = [1, 1, 64]  # beside the networks in the file (spec A.8)
    return {
        "layout": "talk3d",
        "class": "Deltaplane_Predictor",
        "config": {"plane_layout": "eg3d_fixed"},
        "parameters": {key: shape for key, shape in keys.items() if not key.endswith(TALK3D_BUFFERS)},
        "buffers": {key: shape for key, shape in keys.items() if key.endswith(TALK3D_BUFFERS)},
        "integers": [key for key in keys if key.endswith("num_batches_tracked")],
        "optional": [],
    }


def write(table: dict, folder: Path) -> None:
    """One key per line, so that a change shows as a line."""
    parts = []
    for name, value in table.items():
        if name in ("parameters", "buffers"):
            rows = ",\n".join(f"{json.dumps(key)}:{json.dumps(shape, separators=(',', ':'))}" for key, shape in value.items())
            parts.append(f"{json.dumps(name)}:{{\n{rows}\n}}" if rows else f"{json.dumps(name)}:{{}}")
        else:
            parts.append(f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}")
    (folder / f"{table['layout']}.json").write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


def main(source: str, target: str) -> None:
    lists, folder = Path(source), Path(target)
    folder.mkdir(parents=True, exist_ok=True)
    write(real3d_table(lists / "real3d_head.json", "real3d_head", REAL3D_CONFIG), folder)
    write(real3d_table(lists / "real3d_torso.json", "real3d_torso", REAL3D_CONFIG + TORSO_CONFIG), folder)
    write(real3d_table(lists / "real3d_a2m.json", "real3d_a2m", A2M_CONFIG), folder)
    write(eg3d_table(lists / "eg3d.json", "eg3d", "G"), folder)
    write(eg3d_table(lists / "eg3d.json", "eg3d_discriminator", "D"), folder)
    write(talk3d_table(lists / "talk3d.json"), folder)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
