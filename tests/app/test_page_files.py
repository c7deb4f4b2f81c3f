"""What can be known of the page without a browser: its words, its markup, its modules, and that it asks nobody else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

import triportrait
from triportrait.export import VIEWER

WEB = Path(triportrait.__file__).parent / "app" / "web"
SCRIPTS = [*sorted(WEB.glob("*.js")), VIEWER]
STRINGS: dict[str, str] = json.loads((WEB / "strings.en.json").read_text())
#: Elements of HTML that have no end.
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """The elements of index.html, with their parents; it fails where they are not nested."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed((WEB / "index.html").read_text())
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attributes}) == len(attributes), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attributes), list(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if text.strip():
            self.texts.append((self.open[-1], text.strip()))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page()


def test_all_words_stand_in_one_file(page: Page) -> None:
    # What the browser shows before, or without, scripts.
    assert {tag for tag, _ in page.texts} == {"title", "noscript"}
    used: set[str] = set()
    for _, attributes, _ in page.elements:
        used |= {value for name, value in attributes.items() if name in ("data-text", "data-label", "data-alt") and value}
        assert not {"title", "placeholder", "aria-label"} & attributes.keys()
    families: set[str] = set()
    for script in SCRIPTS:
        text = script.read_text()
        used |= set(re.findall(r'"([a-z_]+\.[A-Za-z_.]+)"', text)) & STRINGS.keys()
        # A name with a part that is filled in, such as `emotion.${name}`, uses its whole family.
        families |= set(re.findall(r"t\(`([a-z_.]+\.)\$\{", text))
        for name in re.findall(r'\bt\("([^"]+)"', text):
            assert name in STRINGS, f"{script.name}: {name}"
    assert used <= STRINGS.keys()
    written = set(re.findall(r"\w+", "".join(script.read_text() for script in SCRIPTS)))

    def is_filled_in(name: str) -> bool:
        return any(name.startswith(family) and set(re.findall(r"\w+", name.removeprefix(family))) <= written for family in families)

    assert not [name for name in STRINGS.keys() - used if not is_filled_in(name)]


def test_words_are_sentences_or_names() -> None:
    for name, text in STRINGS.items():
        assert text == text.strip() and "  " not in text and "Oops" not in text, name
        # Whatever has a verb in the middle of a line ends as a sentence does.
        if name.startswith(("error.", "help.")) and name not in ("help.title", "help.keys"):
            assert text.endswith((".", "?")), name


def test_the_markup_is_sound(page: Page) -> None:
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes, parents in page.elements:
        for name in ("aria-labelledby", "aria-controls", "aria-describedby", "for"):
            if name in attributes:
                assert attributes[name] in ids, f"{tag} {name}={attributes[name]}"
        if tag == "button":
            assert attributes.get("type") == "button" and "button" not in parents
        if tag == "img":
            assert "data-alt" in attributes
    heads = [tag for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert heads[0] == "h1" and heads.count("h1") == 1


def test_every_field_has_a_name(page: Page) -> None:
    for tag, attributes, parents in page.elements:
        if tag in ("input", "select", "textarea"):
            assert "label" in parents or "data-label" in attributes
        if tag == "button":
            assert attributes.get("data-text") or attributes.get("data-label")
        if tag in ("canvas", "audio", "video", "progress"):
            assert attributes.get("data-label"), attributes
        if tag == "dialog":
            assert attributes.get("aria-labelledby")


def test_scripts_name_only_elements_that_exist(page: Page) -> None:
    ids = {attributes["id"] for _, attributes, _ in page.elements if "id" in attributes}
    for script in SCRIPTS:
        made = set(re.findall(r'\bid: "([\w-]+)"', "".join(other.read_text() for other in SCRIPTS)))
        amounts = {"head_motion", "mouth_gain"}
        for name in re.findall(r'\$\("([\w-]+)"\)', script.read_text()):
            assert name in ids | made | amounts, f"{script.name}: {name}"


def test_nothing_comes_from_outside() -> None:
    for path in (*WEB.iterdir(), VIEWER):
        text = path.read_text()
        assert not re.search(r"""(?:https?:)?//[a-z0-9]""", text.replace("http://www.w3.org/2000/svg", "")), path.name
        assert not re.search(r"\beval\(|new Function|innerHTML|insertAdjacentHTML|document\.write", text), path.name
        if path.suffix == ".js":
            for module in re.findall(r'from "([^"]+)"|import\("([^"]+)"', text):
                name = Path(module[0] or module[1]).name
                assert name == VIEWER.name or (WEB / name).is_file(), module


def test_every_kind_of_file_is_installed_and_served() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    server = (WEB.parent / "server.py").read_text()
    for ending in {path.suffix for path in WEB.iterdir()}:
        assert f'"**/*{ending}"' in project and f'"{ending}": "' in server, ending


def test_every_module_is_used() -> None:
    texts = {path.name: path.read_text() for path in SCRIPTS} | {"index.html": (WEB / "index.html").read_text()}
    for path in WEB.iterdir():
        if path.name in ("index.html", "strings.en.json"):
            continue
        assert any(path.name in text for name, text in texts.items() if name != path.name), path.name
        assert path.suffix != ".js" or len(texts[path.name].splitlines()) < 400


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's own functions: apt-get install nodejs")
def test_commands_are_those_of_a_shell(tmp_path: Path) -> None:
    (tmp_path / "same.mjs").write_text((WEB / "same.js").read_text())
    (tmp_path / "ask.mjs").write_text(
        "import { command, python, stillPython } from './same.mjs';\n"
        "const options = { quality: 'draft', emotion: 'happy', head_motion: 0.5, full_frame: true, background: '#204060' };\n"
        "options.format = 'webm';\n"
        "const pose = { curves: { jawOpen: 0.3 }, pitch: 0, yaw: 10, roll: 0, gaze: [0, 5], emotion: 'happy', background: 'white' };\n"
        "console.log(JSON.stringify([command(\"it's me.jpg\", 'audio', '-a b.wav', options), python('me.jpg', 'audio', 'a.wav', options),"
        " python('me.jpg', 'driving', 'a.mp4', {}), stillPython('me.jpg', pose)]));\n"
    )
    said = subprocess.run(["node", str(tmp_path / "ask.mjs")], capture_output=True, text=True, check=True).stdout
    command, talk, drive, still = json.loads(said)
    words = subprocess.run(
        ["sh", "-c", "for word in " + command + '; do echo "$word"; done'], capture_output=True, text=True, check=True
    ).stdout
    assert words.splitlines() == [
        *(
            "triportrait",
            "animate",
            "it's me.jpg",
            "--audio",
            "./-a b.wav",
            "--quality",
            "draft",
            "--emotion",
            "happy",
            "--head-motion",
            "0.5",
        ),
        *("--full-frame", "--background", "#204060", "--size", "512", "-o", "out.webm"),
    ]
    for program in (talk, drive, still):
        compile(program, "page", "exec")
    assert 'DriveOptions(emotion="happy", head_motion=0.5)' in talk and 'Background("#204060")' in talk and "DriveOptions" not in drive
