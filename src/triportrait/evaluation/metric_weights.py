"""Weights of the learned metrics from a user's folder (``--metric-weights DIR``), loaded strictly or not at all.

Files are read by :mod:`triportrait.weights.reading`, so nothing in them is executed. A metric whose file is absent is
reported as null with the reason; a file that is there but is not what its name says stops the run before it starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from triportrait.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from triportrait.evaluation.networks import InceptionFeatures, IResNet, Lpips, SyncNet

#: A network that is built, filled and handed back.
Network = TypeVar("Network", bound="nn.Module")

#: torch hub's file names end in the first digits of the file's SHA-256.
_HASHED_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A published file: ``names`` under which it is looked for, best first; tensors starting with ``unused`` are left out."""

    names: tuple[str, ...]
    metric: str
    source: str
    unused: tuple[str, ...] = ()


WEIGHT_FILES: dict[str, WeightFile] = {
    "alexnet": WeightFile(
        ("alexnet.safetensors", "alexnet.pth", "alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
        "LPIPS (alex)",
        "torchvision's AlexNet, https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        ("classifier.",),
    ),
    "vgg16": WeightFile(
        ("vgg16.safetensors", "vgg16.pth", "vgg16-397923af.pth"),
        "LPIPS (vgg)",
        "torchvision's VGG16, https://download.pytorch.org/models/vgg16-397923af.pth",
        ("classifier.",),
    ),
    "inception": WeightFile(
        ("inception_fid.safetensors", "inception_fid.pth", "pt_inception-2015-12-05-6726825d.pth"),
        "FID",
        "pytorch-fid's Inception-v3, https://github.com/mseitzer/pytorch-fid/releases (fid_weights)",
        ("fc.",),
    ),
    "arcface": WeightFile(
        (
            "arcface.safetensors",
            "arcface.pth",
            "glint360k_cosface_r100_fp16_0.1.pth",
            "ms1mv3_arcface_r100_fp16.pth",
            "ms1mv3_arcface_r50_fp16.pth",
            "backbone.pth",
        ),
        "CSIM",
        "an IResNet of InsightFace's arcface_torch model zoo (non-commercial)",
    ),
    "syncnet": WeightFile(
        ("syncnet.safetensors", "syncnet_v2.model", "syncnet_v2.pth"),
        "Sync (LSE-C, LSE-D)",
        "SyncNet of the University of Oxford, http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
    ),
}


def find_weights(folder: Path | None, name: str) -> tuple[Path | None, str]:
    """The file of network ``name`` in ``folder``, or None and the reason in one sentence."""
    wanted = WEIGHT_FILES[name]
    if folder is None:
        return None, f"needs {wanted.source}; put it into a folder and give --metric-weights FOLDER"
    for candidate in wanted.names:
        if (folder / candidate).is_file():
            return folder / candidate, ""
    return None, f"no {wanted.names[0]} or {wanted.names[-1]} in {folder}: {wanted.source}"


def load_strictly(network: Network, tensors: Mapping[str, torch.Tensor], path: Path, unused: tuple[str, ...] = ()) -> Network:
    """Fill ``network`` with exactly its tensors; batch norms' step counters may be missing, ``unused`` prefixes are dropped.

    Raises:
        WeightsError: a tensor is missing, unknown, or of another shape; the text names the first one.
    """
    given = {key: value for key, value in tensors.items() if not key.startswith(unused)} if unused else dict(tensors)
    own = network.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    kind = type(network).__name__
    for what, keys in (("lacks", set(own) - counters - set(given)), ("holds the unknown", set(given) - set(own))):
        if keys:
            raise WeightsError(f"'{path}' {what} '{min(keys)}'; it is not the published file for {kind}, see docs/guides/evaluation.md.")
    for key, value in given.items():
        if value.shape != own[key].shape:
            raise WeightsError(
                f"'{path}': '{key}' has shape {tuple(value.shape)} instead of {tuple(own[key].shape)}; "
                f"it is not the published file for {kind}, see docs/guides/evaluation.md."
            )
    state = {key: given[key].to(own[key].dtype) if key in given else own[key] for key in own}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


class MetricNetworks:
    """The learned metrics' networks, each loaded when first used.

    Args:
        folder: where the user's files lie; None leaves all of them out.

    Attributes:
        missing: per network that is absent the reason.

    Raises:
        WeightsError: ``folder`` is no folder.
    """

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise WeightsError(f"'{folder}' is not a folder; --metric-weights takes the folder with the metrics' weight files.")
        self.files: dict[str, Path] = {}
        self.missing: dict[str, str] = {}
        for name in WEIGHT_FILES:
            path, reason = find_weights(folder, name)
            if path is None:
                self.missing[name] = reason
            else:
                self.files[name] = path
        if (self.files.keys() & {"alexnet", "vgg16"}) and _heads_folder() is None:
            for name in self.files.keys() & {"alexnet", "vgg16"}:
                self.missing[name] = "the linear heads of LPIPS come with torchmetrics; pip install 'triportrait[eval]'"
                del self.files[name]

    def check(self) -> None:
        """Load every network that is there, so that a wrong file is refused before the work starts.

        Raises:
            WeightsError: see :func:`load_strictly` and :func:`triportrait.weights.reading.read_checkpoint`.
        """
        parts = {"alexnet": "lpips_alex", "vgg16": "lpips_vgg", "inception": "inception", "arcface": "arcface", "syncnet": "syncnet"}
        for name in self.files:
            getattr(self, parts[name])

    @cached_property
    def lpips_alex(self) -> Lpips | None:
        return self._lpips("alexnet", "alex")

    @cached_property
    def lpips_vgg(self) -> Lpips | None:
        return self._lpips("vgg16", "vgg")

    @cached_property
    def inception(self) -> InceptionFeatures | None:
        from triportrait.evaluation.networks import InceptionFeatures

        return self._load("inception", lambda tensors, path: InceptionFeatures())

    @cached_property
    def arcface(self) -> IResNet | None:
        from triportrait.evaluation.networks import IRESNET_BLOCKS, IResNet

        def build(tensors: Mapping[str, torch.Tensor], path: Path) -> IResNet:
            blocks = tuple(len({key.split(".")[1] for key in tensors if key.startswith(f"layer{stage}.")}) for stage in range(1, 5))
            depth = next((depth for depth, plan in IRESNET_BLOCKS.items() if plan == blocks), None)
            if depth is None:
                raise WeightsError(f"'{path}' is no IResNet of 18, 34, 50, 100 or 200 layers (its stages have {blocks} blocks).")
            return IResNet(depth)

        return self._load("arcface", build)

    @cached_property
    def syncnet(self) -> SyncNet | None:
        from triportrait.evaluation.networks import SyncNet

        return self._load("syncnet", lambda tensors, path: SyncNet())

    def _lpips(self, name: str, backbone: str) -> Lpips | None:
        from triportrait.evaluation.networks import Lpips
        from triportrait.weights.reading import read_checkpoint

        heads_folder = _heads_folder()
        if name not in self.files or heads_folder is None:
            return None
        heads = read_checkpoint(heads_folder / f"{backbone}.pth").tensors
        return self._load(name, lambda tensors, path: Lpips(backbone), heads)

    def _load(
        self, name: str, build: Callable[[Mapping[str, torch.Tensor], Path], Network], more: Mapping[str, torch.Tensor] | None = None
    ) -> Network | None:
        from triportrait.weights.reading import read_checkpoint

        if name not in self.files:
            return None
        path = self.files[name]
        checkpoint = read_checkpoint(path)
        expected = _HASHED_NAME.search(path.name)
        if expected and not checkpoint.info.sha256.startswith(expected[1]):
            raise WeightsError(f"'{path}' is not the file its name says (SHA-256 {checkpoint.info.sha256[:8]}…); download it again.")
        return load_strictly(build(checkpoint.tensors, path), {**checkpoint.tensors, **(more or {})}, path, WEIGHT_FILES[name].unused)


def _heads_folder() -> Path | None:
    """Where torchmetrics keeps the linear heads of LPIPS (package content); it is not imported for that."""
    from importlib.util import find_spec

    spec = find_spec("torchmetrics")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "functional" / "image" / "lpips_models"
    return folder if folder.is_dir() else None
