"""Where a training runs: Lightning's Fabric, or a stand-in for one device that needs torch alone and answers to the same calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from triportrait.errors import MissingPart, OptionError


class SingleDevice:
    """The calls of ``lightning.Fabric`` that the loop makes, for one process and one device.

    Args:
        device: ``"cpu"`` or ``"cuda"``, or with a number.
    """

    world_size, global_rank, is_global_zero = 1, 0, True

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def launch(self) -> None:
        """Nothing has to be started."""

    def setup_module(self, module: nn.Module) -> nn.Module:
        """To the device."""
        return module.to(self.device)

    def setup_optimizers(self, optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """As it is."""
        return optimiser

    def no_backward_sync(self, module: nn.Module, enabled: bool = True) -> Any:
        """There is nobody to wait for."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients of ``loss``."""
        loss.backward()

    def all_reduce(self, value: Tensor, reduce_op: str = "mean") -> Tensor:
        """The value itself."""
        return value

    def barrier(self) -> None:
        """Nobody to wait for."""


def make_fabric(device: str = "auto", devices: int = 1, nodes: int = 1, plain: bool | None = None) -> Any:
    """Fabric for this machine, or :class:`SingleDevice`.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        devices: processes of this machine, each with a device of its own: more than one is DistributedDataParallel.
        nodes: machines; each starts the same command (``torchrun`` or SLURM tell them who they are).
        plain: True takes the stand-in, False Fabric; None takes the stand-in where one device trains alone.

    Raises:
        MissingPart: no such device, or several are asked for without Lightning.
        OptionError: fewer than one device.
    """
    if devices < 1 or nodes < 1:
        raise OptionError(f"--devices {devices} on {nodes} nodes leaves nothing to train on; use at least 1")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and torch.cuda.device_count() < devices:
        raise MissingPart(f"{devices} CUDA devices are asked for and PyTorch finds {torch.cuda.device_count()}; use --device cpu or fewer")
    alone = devices * nodes == 1 and "TORCHELASTIC_RUN_ID" not in os.environ
    if plain or (plain is None and alone):
        # One device gains nothing from Fabric, whose import costs seconds.
        return SingleDevice(device)
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies import DDPStrategy
    except ImportError as error:
        raise MissingPart("Several devices need Lightning; install triportrait[train].") from error
    strategy: Any = "auto"
    if not alone:
        # Some passes leave whole networks out: those gradients are not waited for. Buffers follow from synchronised statistics.
        strategy = DDPStrategy(find_unused_parameters=True, process_group_backend="nccl" if device == "cuda" else "gloo")
    # Fabric's own mixed precision would also round what comes in, cameras for one; the loop sets the precision itself.
    return Fabric(accelerator="cuda" if device == "cuda" else "cpu", devices=devices, num_nodes=nodes, strategy=strategy)


# -- batch norm over all processes ------------------------------------------------------------------------------------------


class _SumOverProcesses(torch.autograd.Function):
    """The sum over all processes; every process's gradient reaches every addend."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class _SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the statistics of all processes, on any device (PyTorch's own ``SyncBatchNorm`` wants a GPU)."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - PyTorch's name
        return

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        wide = x.float()
        count = wide.new_full((1,), x.numel() / x.shape[1])
        sums = _SumOverProcesses.apply(torch.cat([wide.sum(axes), wide.square().sum(axes), count]))
        total = sums[-1]
        mean, square = (part / total for part in sums[:-1].chunk(2))
        variance = square - mean.square()
        assert self.running_mean is not None and self.running_var is not None, "norms of our networks keep running statistics"
        assert self.num_batches_tracked is not None and self.momentum is not None
        with torch.no_grad():
            # PyTorch keeps the unbiased variance.
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(variance.detach() * (total / (total - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        shape = (1, -1, *[1] * (x.ndim - 2))
        normal = (wide - mean.view(shape)) * torch.rsqrt(variance.view(shape) + self.eps)
        return (normal * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def share_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Every batch norm inside looks at the pictures of all processes; state keys and values stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.affine and child.track_running_stats:
            child.__class__ = _SharedNorm
    return module


@contextmanager
def trained_alone(networks: dict[str, nn.Module], chosen: set[str]) -> Iterator[None]:
    """Inside, only the networks ``chosen`` collect gradients."""
    changed = [p for name, network in networks.items() if name not in chosen for p in network.parameters() if p.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


def on_device(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """All tensors in dictionaries, lists and tuples moved."""
    if isinstance(value, Tensor):
        return move(value)
    if isinstance(value, dict):
        return {key: on_device(part, move) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_device(part, move) for part in value)
    return value
