"""Who answers for a video: a name or an id that the user gives, the number that stands for it in the pixels, and consent.

The number is the beginning of a hash of the name, so the mark names nobody to those who do not know the name already;
who is told a name can check it. The name is kept in ``<user folder>/maker.txt``, which only its owner can read.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from triportrait.errors import OptionError, OutputError, escaped
from triportrait.files import atomic_file
from triportrait.provenance.signing import user_folder

#: What the watermark says where no maker is known.
NO_MAKER = 0
LONGEST_MAKER = 200
LONGEST_CONSENT = 1000


@dataclass(frozen=True, slots=True)
class Account:
    """What a video says about the people behind it and in it.

    Args:
        maker: name or id of who made it; empty for nobody.
        consent: how the person shown agreed, in the maker's words; empty for nothing.

    Raises:
        OptionError: a text that is too long, or holds control characters.
    """

    maker: str = ""
    consent: str = ""

    def __post_init__(self) -> None:
        for name, text, limit in (("maker", self.maker, LONGEST_MAKER), ("consent", self.consent, LONGEST_CONSENT)):
            if len(text) > limit:
                raise OptionError(f"the {name} has {len(text)} characters; give at most {limit}")
            if text != escaped(text):
                raise OptionError(f"the {name} holds characters that cannot be printed; give one line of plain text")

    @property
    def number(self) -> int:
        """What the watermark says of the maker, 32 bits."""
        return maker_number(self.maker)


#: Nobody answers, and nothing is said of consent.
NOBODY = Account()


def maker_number(maker: str) -> int:
    """The 32 bits that stand for a maker: 0 for nobody, else the beginning of the name's SHA-256.

    Blanks around and between words, the case of letters and their way of coding make no difference.
    """
    plain = " ".join(unicodedata.normalize("NFKC", maker).casefold().split())
    if not plain:
        return NO_MAKER
    digest = hashlib.sha256(f"TriPortrait maker {plain}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") or 1


def shown_number(number: int) -> str:
    """A maker's number as people read it: eight hexadecimal digits in two groups."""
    digits = f"{number:08X}"
    return f"{digits[:4]}-{digits[4:]}"


def stored_maker() -> str:
    """The maker that this user has set, or an empty text.

    Raises:
        OptionError: the file cannot be read, or does not hold one line of text.
    """
    file = _file()
    try:
        text = file.read_text(encoding="utf-8").strip()
        return Account(text).maker
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"the maker in '{file}' cannot be read ({reason}); run 'triportrait maker set NAME' again") from error


def store_maker(maker: str) -> Path:
    """Keep the maker's name for the videos to come; returns the file, which only its owner can read.

    Raises:
        OptionError: there is no name in the text, or it is too long.
        OutputError: it cannot be written.
    """
    maker = Account(maker.strip()).maker
    if not maker:
        raise OptionError("the maker's name is empty; give a name or an id, or run 'triportrait maker clear'")
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"'{file.parent}' cannot be made: {error.strerror or error}; set TRIPORTRAIT_HOME to another folder.") from error
    with atomic_file(file) as draft:
        os.chmod(draft, 0o600)
        draft.write_text(maker + "\n", encoding="utf-8")
    return file


def clear_maker() -> bool:
    """Forget the maker; whether there was one.

    Raises:
        OutputError: the file cannot be removed.
    """
    try:
        _file().unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"'{_file()}' cannot be removed: {error.strerror or error}; check its rights.") from error
    return True


def _file() -> Path:
    return user_folder() / "maker.txt"
