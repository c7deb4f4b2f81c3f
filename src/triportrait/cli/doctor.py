"""``triportrait doctor``: what is here and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from triportrait.cli.terminal import say_lines


@dataclass
class Doctor:
    """Versions, models and devices; what is missing and how to get it."""

    def run(self) -> int:
        from triportrait.doctor import report

        lines, healthy = report()
        say_lines("\n".join(lines))
        return 0 if healthy else 1
