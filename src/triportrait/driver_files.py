"""The files that a driver's options name: read, or looked at before a performance begins."""

from __future__ import annotations

import os
from pathlib import Path

from triportrait.errors import OptionError
from triportrait.motion.files import READ_ENDINGS
from triportrait.motion.head_motion import pose_library
from triportrait.motion.options import POSES, DriveOptions
from triportrait.types import Motion, PathLike

#: What an option that names a file of motion can be.
FILE_OPTIONS = {
    "--style": "give a video or motion file that exists",
    "--pose": "use driving, still, natural, or a video or motion file that exists",
    "--head-motion": "use a number, a video or motion file that exists, or a folder of them",
}


def read_motion(path: PathLike) -> Motion:
    """A motion file of ours.

    Raises:
        MediaError: missing, a folder, or unreadable.
        MotionFileError: no motion file, or damaged.
    """
    from triportrait.files import check_readable
    from triportrait.motion.files import load_motion

    check_readable(path)
    return load_motion(path)


def check_option_files(options: DriveOptions) -> None:
    """Look at every file that these options name, for what would end a performance minutes later.

    Raises:
        OptionError, MediaError, MotionFileError: one is missing, unreadable, or of another kind.
    """
    from triportrait.motion.files import load_controls
    from triportrait.motion.style import style_of

    if isinstance(options.style, str | os.PathLike):
        measured = check_motion_source("--style", os.fspath(options.style))
        if measured is not None:
            style_of(measured)
    if isinstance(options.controls, str | os.PathLike):
        load_controls(options.controls)
    if options.pose_source not in POSES:
        check_pose_source("--pose" if options.pose == options.pose_source else "--head-motion", options.pose_source)


def check_pose_source(option: str, pose: str) -> None:
    """Look at the file that lends its head motion, or at every file of a folder; raises as :func:`check_option_files` does."""
    for path in pose_library(option, pose) if os.path.isdir(pose) else [pose]:
        check_motion_source(option, os.fspath(path))


def check_motion_source(option: str, path: str) -> Motion | None:
    """Raise what :func:`triportrait.drivers.motion_of_file` would raise of a file that is missing, unreadable or of another kind.

    Returns:
        what is in a motion file; None for a video, which takes minutes to measure.
    """
    if not os.path.lexists(path):
        raise OptionError(f"{option} is {path!r}; {FILE_OPTIONS[option]}")
    if Path(path).suffix.lower() in READ_ENDINGS:
        return read_motion(path)
    from triportrait.media.video import VideoReader

    VideoReader(path).close()
    return None
