"""As much of ComfyUI as the nodes touch, after its published V3 schema: names and parameters that it does not have are refused.

``install`` puts the modules where Python finds them. Without torch, arrays that know what the nodes ask of a tensor take its place.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class Input:
    def __init__(self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None, raw_link=None) -> None:
        self.id, self.optional = id, optional


class Widget(Input):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, socketless=None, force_input=None, **own
    ) -> None:
        super().__init__(id, display_name, optional, tooltip, lazy)
        unknown = set(own) - self.own
        assert not unknown, f"{type(self).__qualname__} has no {unknown}"
        self.default, self.settings = default, own

    own: set[str] = set()

    def check(self, value: Any) -> None:
        if "options" in self.settings:
            assert value in self.settings["options"], (self.id, value)
        if "min" in self.settings:
            assert self.settings["min"] <= value <= self.settings["max"], (self.id, value)


class Output:
    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False) -> None:
        self.id, self.display_name = id, display_name


def _type(io_type: str, own: set[str] | None = None) -> type:
    base = Input if own is None else Widget
    given = type("Input", (base,), {"io_type": io_type} | ({} if own is None else {"own": own}))
    return type(io_type, (), {"io_type": io_type, "Input": given, "Output": type("Output", (Output,), {"io_type": io_type})})


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def __post_init__(self) -> None:
        names = [item.id for item in [*self.inputs, *self.outputs] if item.id is not None]
        assert len(set(names)) == len(names), f"{self.node_id}: ids are not unique"


class NodeOutput:
    def __init__(self, *args: Any, ui=None, expand=None, block_execution=None) -> None:
        self.args = args


class ComfyNode:
    pass


class ComfyExtension:
    async def on_load(self) -> None: ...


@dataclass
class VideoComponents:
    images: Any
    frame_rate: Any
    audio: Any = None
    metadata: Any = None


class VideoFromComponents:
    def __init__(self, components: VideoComponents) -> None:
        self.components = components


class VideoFromFile:
    def __init__(self, file: str) -> None:
        self.file = file


class ProgressBar:
    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        assert 0 <= value <= (total or self.total)


class Tensor(np.ndarray):
    """An array with the few methods of a tensor that the nodes use."""

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return np.asarray(self)

    def float(self) -> Tensor:
        return self.astype(np.float32)


def install(folder: Path) -> None:
    """Put the made-up modules in place; ``folder`` holds what is written."""
    number = {"min", "max", "step", "display_mode", "round", "control_after_generate"}
    io = SimpleNamespace(
        Input=Input,
        Output=Output,
        Image=_type("IMAGE"),
        Mask=_type("MASK"),
        Audio=_type("AUDIO"),
        Video=_type("VIDEO"),
        Boolean=_type("BOOLEAN", {"label_on", "label_off"}),
        Int=_type("INT", number - {"round"}),
        Float=_type("FLOAT", number - {"control_after_generate"}),
        String=_type("STRING", {"multiline", "placeholder", "dynamic_prompts"}),
        Combo=_type("COMBO", {"options", "control_after_generate", "upload", "image_folder", "remote"}),
        Custom=_type,
        Schema=Schema,
        NodeOutput=NodeOutput,
        ComfyNode=ComfyNode,
    )
    (folder / "temp").mkdir()

    def get_save_image_path(prefix: str, directory: str, width: int = 0, height: int = 0) -> tuple[str, str, int, str, str]:
        where = Path(directory) / prefix
        where.parent.mkdir(parents=True, exist_ok=True)
        return str(where.parent), where.name, len(list(where.parent.glob(f"{where.name}_*"))) + 1, where.parent.name, prefix

    modules = {
        "comfy": {},
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy_api": {},
        "comfy_api.latest": {
            "io": io,
            "ComfyExtension": ComfyExtension,
            "InputImpl": SimpleNamespace(VideoFromComponents=VideoFromComponents, VideoFromFile=VideoFromFile),
            "Types": SimpleNamespace(VideoComponents=VideoComponents),
        },
        "folder_paths": {
            "get_temp_directory": lambda: str(folder / "temp"),
            "get_output_directory": lambda: str(folder / "output"),
            "get_save_image_path": get_save_image_path,
        },
    }
    try:
        import torch  # noqa: F401
    except ImportError:
        modules["torch"] = {"Tensor": Tensor, "from_numpy": lambda array: array.view(Tensor)}
    for name, content in modules.items():
        module = ModuleType(name)
        vars(module).update(content)
        sys.modules[name] = module
