"""A local worker process: ``python -m triportrait.training.data.worker``. Started and talked to by :mod:`pools` only.

Requests are lines of JSON on standard input. Answers go to standard output: a line of JSON with the length of the sample, then the sample.
"""

from __future__ import annotations

import json
import os
import sys

from triportrait.training.data.clip import PrepareSettings
from triportrait.training.data.sources import VideoSource
from triportrait.training.data.work import work_on


def main() -> None:
    """Answer requests until standard input ends, as it does when the run ends, however it ends."""
    # Libraries that print must not print into an answer.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            reply = work_on(VideoSource.from_dict(request["source"]), PrepareSettings(**request["settings"]))
            answers.write(json.dumps({**reply.header(), "bytes": len(reply.sample)}).encode() + b"\n")
            answers.write(reply.sample)
            answers.flush()


if __name__ == "__main__":
    main()
