"""The nodes on real pictures and sound, under a stub of ComfyUI's V3 schema; the workflow, run link by link."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comfy_stub import NodeOutput, VideoFromComponents, VideoFromFile, Widget, install
from PIL import Image
from triportrait.errors import OptionError
from triportrait.media.video import VideoReader

PACKAGE = Path(__file__).resolve().parents[1] / "comfyui_triportrait"
EXAMPLES = PACKAGE.parents[2] / "examples"
WORKFLOW = json.loads((PACKAGE / "workflows" / "talk_and_edit.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((Path(__file__).parent / "workflow_0_4.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Node id -> class, as ComfyUI gets them."""
    folder = tmp_path_factory.mktemp("comfy")
    install(folder)
    sys.path.insert(0, str(PACKAGE.parent))
    extension = asyncio.run(importlib.import_module("comfyui_triportrait").comfy_entrypoint())
    found = asyncio.run(extension.get_node_list())
    return {node.define_schema().node_id: node for node in found}


def run(node: Any, **given: Any) -> tuple[Any, ...]:
    """Execute a node as ComfyUI does: widgets have their defaults, values are within their ranges."""
    schema = node.define_schema()
    values = {item.id: item.default for item in schema.inputs if isinstance(item, Widget)} | given
    for item in schema.inputs:
        assert item.optional or item.id in values, f"{schema.node_id} needs {item.id}"
        if isinstance(item, Widget):
            item.check(values[item.id])
    output = node.execute(**values)
    assert isinstance(output, NodeOutput) and len(output.args) == len(schema.outputs)
    return output.args


def tensor(array: np.ndarray) -> Any:
    return sys.modules["torch"].from_numpy(array)


@pytest.fixture(scope="module")
def photo(nodes: dict[str, Any]) -> Any:
    picture = np.asarray(Image.open(EXAMPLES / "portrait.png").convert("RGB"), np.float32) / 255.0
    return tensor(picture[None])


@pytest.fixture(scope="module")
def voice(nodes: dict[str, Any]) -> dict[str, Any]:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="float32")
    samples = samples[: int(1.2 * rate_hz)]
    return {"waveform": tensor(np.stack([samples, samples])[None]), "sample_rate": rate_hz}


@pytest.fixture(scope="module")
def avatar(nodes: dict[str, Any], photo: Any) -> Any:
    return run(nodes["TriPortraitLoadPortrait"], image=photo, quality="draft")[0]


def test_every_node_says_what_it_takes(nodes: dict[str, Any]) -> None:
    names = ["LoadPortrait", "Talk", "Drive", "MotionFromVoice", "EditMotion", "Render", "SaveAvatar"]
    assert list(nodes) == [f"TriPortrait{name}" for name in names]
    for node in nodes.values():
        taken = signature(node.execute).parameters
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in taken.values()):
            assert {item.id for item in node.define_schema().inputs} == set(taken)


def test_a_portrait_talks(nodes: dict[str, Any], avatar: Any, voice: dict[str, Any]) -> None:
    images, mask, audio, video = run(nodes["TriPortraitTalk"], avatar=avatar, audio=voice, emotion="happy")
    assert images.shape == (30, 384, 384, 3) and mask.shape == (30, 384, 384) and audio is voice
    pictures = images.cpu().numpy()
    assert pictures.dtype == np.float32 and 0.0 <= pictures.min() and pictures.max() <= 1.0
    assert np.abs(pictures - pictures[0]).max() > 0.1 and (mask.cpu().numpy() == 1.0).all()
    assert isinstance(video, VideoFromComponents) and video.components.frame_rate == 25


def test_a_long_clip_is_a_file_and_a_person_can_be_cut_out(nodes: dict[str, Any], avatar: Any, voice: dict[str, Any]) -> None:
    images, mask, _, video = run(nodes["TriPortraitTalk"], avatar=avatar, audio=voice, pictures=False, background="green")
    assert images.shape == (1, 384, 384, 3) and isinstance(video, VideoFromFile)
    with VideoReader(video.file) as reader:
        assert len(list(reader.frames(25.0))) == 30
    short = voice | {"waveform": voice["waveform"][..., : voice["sample_rate"] // 5]}
    images, mask, *_ = run(nodes["TriPortraitTalk"], avatar=avatar, audio=short, background="transparent")
    share = mask.cpu().numpy().mean()
    assert len(images) == 5 and 0.2 < share < 0.9


def test_motion_is_edited_and_rendered(nodes: dict[str, Any], avatar: Any, voice: dict[str, Any]) -> None:
    (motion,) = run(nodes["TriPortraitMotionFromVoice"], audio=voice)
    edit = nodes["TriPortraitEditMotion"]
    (still,) = run(edit, motion=motion, mouth=0.0, head=0.0, end_s=0.4)
    assert len(still) == 10 and np.ptp(still.rotation_rad, axis=0).max() == 0.0
    assert still.expression[:, still.column("jawOpen")].max() < 0.02
    (smiling,) = run(edit, motion=motion, curve="mouthSmileLeft", add=0.5, begin_s=0.8)
    column = motion.column("mouthSmileLeft")
    assert np.allclose(smiling.expression[:, column], np.clip(motion.expression[20:, column] + 0.5, 0.0, 1.0))
    with pytest.raises(OptionError, match="choose a part"):
        run(edit, motion=motion, begin_s=5.0)
    calm, *_ = run(nodes["TriPortraitRender"], avatar=avatar, motion=still)
    wild, _, audio, _ = run(nodes["TriPortraitRender"], avatar=avatar, motion=smiling)
    assert len(calm) == 10 and len(wild) == len(smiling) == 10
    assert audio["waveform"].shape == (1, 1, round(10 / 25 * audio["sample_rate"]))
    calm, wild = calm.cpu().numpy(), wild.cpu().numpy()
    assert np.abs(calm[-1] - calm[0]).mean() < np.abs(wild[-1] - wild[0]).mean()


def test_pictures_of_somebody_drive(nodes: dict[str, Any], avatar: Any, voice: dict[str, Any]) -> None:
    images, *_ = run(nodes["TriPortraitTalk"], avatar=avatar, audio=voice)
    driven, _, audio, _ = run(nodes["TriPortraitDrive"], avatar=avatar, images=images, audio=voice)
    assert driven.shape == images.shape and audio is voice
    # The portrait does what it did: nearer to it than a still face.
    shown, wanted = driven.cpu().numpy()[5:], images.cpu().numpy()[5:]
    assert np.abs(shown - wanted).mean() < np.abs(shown - wanted[:1]).mean()


def test_an_avatar_is_saved_and_read(nodes: dict[str, Any], avatar: Any) -> None:
    (first,), (second,) = (run(nodes["TriPortraitSaveAvatar"], avatar=avatar) for _ in range(2))
    assert first != second and Path(first).is_file() and first.endswith("person_00001_.avatar")
    (again,) = run(nodes["TriPortraitLoadPortrait"], avatar_file=first, quality="draft")
    assert np.array_equal(again.prepared.image, avatar.prepared.image)
    with pytest.raises(OptionError, match="connect an image"):
        run(nodes["TriPortraitLoadPortrait"])


def test_the_workflow_is_valid_and_its_links_and_widgets_fit(nodes: dict[str, Any]) -> None:
    pytest.importorskip("jsonschema").validate(WORKFLOW, SCHEMA)
    by_id = {node["id"]: node for node in WORKFLOW["nodes"]}
    assert WORKFLOW["last_node_id"] == max(by_id) and WORKFLOW["last_link_id"] == max(link[0] for link in WORKFLOW["links"])
    for number, source, slot, target, place, kind in WORKFLOW["links"]:
        assert number in by_id[source]["outputs"][slot]["links"] and by_id[target]["inputs"][place]["link"] == number
        assert by_id[source]["outputs"][slot]["type"] == by_id[target]["inputs"][place]["type"] == kind
    ours = [node for node in WORKFLOW["nodes"] if node["type"] in nodes]
    assert {node["type"] for node in ours} == set(nodes) - {"TriPortraitDrive"}
    for node in ours:
        schema = nodes[node["type"]].define_schema()
        sockets = [item for item in schema.inputs if not isinstance(item, Widget)]
        assert [(item["name"], item["type"]) for item in node["inputs"]] == [(item.id, item.io_type) for item in sockets]
        assert [item["type"] for item in node["outputs"]] == [item.io_type for item in schema.outputs]
        # A seed has a second widget: what happens to it afterwards.
        widgets = [item for item in schema.inputs if isinstance(item, Widget)]
        values = iter(node["widgets_values"])
        for item in widgets:
            item.check(next(values))
            if item.settings.get("control_after_generate"):
                assert next(values) == "fixed"
        assert not list(values)
