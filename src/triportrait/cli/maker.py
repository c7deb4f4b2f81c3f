"""``triportrait maker``: who answers for the videos that are made here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, subcommand

from triportrait.cli.terminal import say


@dataclass
class MakerSet:
    """Keep a name or an id: every later video bears its number in the pixels and the name in the signed statement."""

    name: Positional[str]
    """Name or id, such as "Ada Example, ada@example.org"."""

    def run(self) -> int:
        from triportrait.provenance.maker import maker_number, shown_number, store_maker

        file = store_maker(self.name)
        say(f"{shown_number(maker_number(self.name))} stands for the maker in every watermark from now on; the name is kept in {file}")
        return 0


@dataclass
class MakerShow:
    """Say who is set, and the number that stands for it in the pixels."""

    def run(self) -> int:
        from triportrait.provenance.maker import maker_number, shown_number, stored_maker

        maker = stored_maker()
        say(f"{maker}  (number {shown_number(maker_number(maker))})" if maker else "no maker is set; run 'triportrait maker set NAME'")
        return 0


@dataclass
class MakerClear:
    """Forget the name; later videos name no maker."""

    def run(self) -> int:
        from triportrait.provenance.maker import clear_maker

        say("the maker is forgotten" if clear_maker() else "no maker was set")
        return 0


@dataclass
class Maker:
    """Who answers for the videos that are made here: set, show, clear."""

    action: Annotated[MakerSet, subcommand("set")] | Annotated[MakerShow, subcommand("show")] | Annotated[MakerClear, subcommand("clear")]

    def run(self) -> int:
        return self.action.run()
