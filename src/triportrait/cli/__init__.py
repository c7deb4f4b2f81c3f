"""The command line: one module a command, of which only the one that is asked for is imported.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once. An input at fault is one sentence.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from importlib import import_module
from typing import Annotated, Any, Protocol, Union

from triportrait.cli.terminal import answering_help, exit_code, mend_streams, say, show_log, tell
from triportrait.concurrency import termination_as_exit
from triportrait.errors import MissingPart, TriPortraitError, escaped

#: Package that a part of the program needs -> the extra that brings it.
EXTRAS = {
    "transformers": "paper",
    "lightning": "train",
    "tensorboard": "train",
    "onnx": "train",
    "onnxscript": "train",
    "matplotlib": "eval",
    "torchmetrics": "eval",
    "webdataset": "data",
    "ray": "data",
    "fastapi": "app",
    "starlette": "app",
    "uvicorn": "app",
    "websockets": "app",
    "pyvirtualcam": "camera",
    "sounddevice": "microphone",
}
#: Packages of several extras.
_IN_SEVERAL = ("torch", "scipy")
#: Commands whose torch comes with training; the others' comes with the published networks.
_TRAINING = ("Train", "Data", "Personalize")


class Command(Protocol):
    """A dataclass whose fields are a command's options."""

    def run(self) -> int:
        """Do it; returns the exit code."""


#: Command -> its module and class, in the order of the help.
COMMANDS = {
    "animate": ("triportrait.cli.animate", "Animate"),
    "portrait": ("triportrait.cli.portrait", "PortraitCommand"),
    "personalize": ("triportrait.cli.personalize", "Personalize"),
    "extract": ("triportrait.cli.extract", "Extract"),
    "motion": ("triportrait.cli.motion", "MotionCommand"),
    "export": ("triportrait.cli.export", "Export"),
    "evaluate": ("triportrait.cli.evaluate", "Evaluate"),
    "data": ("triportrait.cli.data", "Data"),
    "train": ("triportrait.cli.train", "Train"),
    "live": ("triportrait.cli.live", "Live"),
    "stream": ("triportrait.cli.stream", "Stream"),
    "serve": ("triportrait.cli.serve", "Serve"),
    "jobs": ("triportrait.cli.jobs", "Jobs"),
    "detect": ("triportrait.cli.detect", "Detect"),
    "maker": ("triportrait.cli.maker", "Maker"),
    "weights": ("triportrait.cli.weights", "Weights"),
    "doctor": ("triportrait.cli.doctor", "Doctor"),
}


def command_type(name: str) -> type[Command]:
    """The dataclass of a command."""
    module, command = COMMANDS[name]
    found: type[Command] = getattr(import_module(module), command)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code. An input at fault is one sentence on standard error and exit code 2."""
    mend_streams()
    show_log()
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments in (["--version"], ["-V"]):
        from triportrait import __version__

        say(__version__)
        return exit_code()
    return _run(_parsed(arguments)) or exit_code()


def _parsed(arguments: list[str]) -> Command:
    import tyro

    def parse() -> Command:
        settings = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
        chosen = arguments[0] if arguments else ""
        if chosen in COMMANDS:
            # Of the others, nothing is imported or looked at.
            return tyro.cli(command_type(chosen), prog=f"triportrait {chosen}", args=arguments[1:], config=settings)
        every: Any = Union[tuple(Annotated[command_type(name), tyro.conf.subcommand(name)] for name in COMMANDS)]  # noqa: UP007
        description = "One photo and a voice become a talking 3D portrait."
        return tyro.cli(every, prog="triportrait", args=arguments or ["--help"], description=description, config=settings)

    with answering_help():
        if arguments == [escaped(argument) for argument in arguments]:
            return parse()
        # tyro repeats what it does not understand, which a file's name may have brought in.
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                return parse()
        finally:
            for line in said.getvalue().splitlines():
                tell(line)


def _run(command: Command) -> int:
    try:
        with termination_as_exit() as asked:
            code = command.run()
            # A native library that was running may have swallowed the exception; the result is whole all the same.
            return asked[0] if asked else code
    except TriPortraitError as error:
        if os.environ.get("TRIPORTRAIT_DEBUG"):
            raise
        tell(f"triportrait: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        tell("triportrait: interrupted; nothing half-written is left")
        return 130
    except ModuleNotFoundError as error:
        if os.environ.get("TRIPORTRAIT_DEBUG"):
            raise
        package = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(package)
        if package in _IN_SEVERAL:
            extra = "train" if type(command).__name__ in _TRAINING else "eval" if type(command).__name__ == "Evaluate" else "paper"
        remedy = f"pip install 'triportrait[{extra}]'" if extra else f"pip install {package}"
        tell(f"triportrait: this needs the package {package}, which is not installed; {remedy}")
        return MissingPart.exit_code
    except Exception as error:  # the last door before a user: a bug of ours is one sentence too
        if os.environ.get("TRIPORTRAIT_DEBUG"):
            raise
        remedy = "set TRIPORTRAIT_DEBUG=1 for details and report it, please"
        tell(f"triportrait: internal error ({type(error).__name__}: {error}); {remedy}")
        return 1
