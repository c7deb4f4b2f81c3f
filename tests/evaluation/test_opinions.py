"""Rating kits and what comes back from them (Table 3, appendix D.2)."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from triportrait.cli import main
from triportrait.errors import MediaError, OptionError, OutputError
from triportrait.evaluation.opinion_answers import COLUMNS, read_answers, run_opinions
from triportrait.evaluation.opinion_kit import PAGE, decoded, encoded, make_kit, read_kit
from triportrait.evaluation.printed import OPINIONS

METHODS, CLIPS = ("ours", "theirs & <co>"), ("anna", "ben", "cleo")


@pytest.fixture
def videos(clip: Path, tmp_path: Path) -> Path:
    """Two methods, three clips, three photographs."""
    from PIL import Image

    folder = tmp_path / "videos"
    for method in METHODS:
        (folder / method).mkdir(parents=True)
        for name in CLIPS:
            shutil.copy(clip, folder / method / f"{name}.mp4")
    for name in CLIPS:
        Image.new("RGB", (64, 80), (90, 120, 150)).save(folder / f"{name}.jpg")
    return folder


def write_answers(path: Path, kit: dict, rater: str, scores: dict[str, tuple], *, only: int | None = None) -> Path:
    """A file as the page saves it; ``scores`` holds three per method."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for place, video in enumerate(kit["videos"][:only], 1):
            writer.writerow([kit["kit"], rater, place, video["id"], video["code"], *scores[decoded(video["code"])[0]]])
    return path


# -- the kit --------------------------------------------------------------------------------------------------------------


def test_a_kit_hides_the_methods_and_needs_no_network(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kit = tmp_path / "kit"
    assert main(["evaluate", "opinions", "--videos", str(videos), "-o", str(kit), "--seed", "5"]) == 0
    assert f"--answers answers_*.csv --kit {kit}" in capsys.readouterr().out
    photos, copies = [f"p00{number}.jpg" for number in (1, 2, 3)], [f"v00{number}.mp4" for number in range(1, 7)]
    assert sorted(path.name for path in kit.iterdir()) == [PAGE, *photos, *copies]
    page, data = (kit / PAGE).read_text(encoding="utf-8"), read_kit(kit)
    assert not re.search(r"https?:|//[a-z]+\.[a-z]|@import|fetch\(|XMLHttpRequest|src=\"(?!data)", page), "nothing comes from a network"
    for name in (*METHODS, *CLIPS, "theirs", 'ours"'):
        assert name not in re.sub(r"yours|hours", "", page), name
    made = [decoded(video["code"]) for video in data["videos"]]
    assert sorted(made) == sorted((method, name) for method in METHODS for name in CLIPS)
    assert made != sorted(made), "the neutral numbers follow the seed, not the names"
    assert {(name, video["photo"]) for (_, name), video in zip(made, data["videos"], strict=True)} == {
        ("anna", "p001.jpg"),
        ("ben", "p002.jpg"),
        ("cleo", "p003.jpg"),
    }
    assert [question["key"] for question in data["questions"]] == list(OPINIONS)
    assert "photograph" in data["questions"][0]["sentence"]
    make_kit(videos, tmp_path / "same", 5)
    make_kit(videos, tmp_path / "other", 6)
    assert read_kit(tmp_path / "same") == data
    assert read_kit(tmp_path / "other")["kit"] != data["kit"] and read_kit(tmp_path / "other")["videos"] != data["videos"]


def test_without_photographs_likeness_is_asked_of_the_video_alone(videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (videos / "ben.jpg").unlink()
    with pytest.raises(OptionError, match=r"add 'ben\.jpg'"):
        make_kit(videos, tmp_path / "kit")
    for name in ("anna", "cleo"):
        (videos / f"{name}.jpg").unlink()
    make_kit(videos, tmp_path / "kit")
    assert "no photographs" in caplog.text
    data = read_kit(tmp_path / "kit")
    assert "photograph" not in data["questions"][0]["sentence"] and {video["photo"] for video in data["videos"]} == {None}


def test_folders_that_make_no_kit_are_refused_and_leave_nothing(videos: Path, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    with pytest.raises(OutputError, match="lies in the folder of videos"):
        make_kit(videos, videos / "kit")
    kit.mkdir()
    (kit / "old.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is there already"):
        make_kit(videos, kit)
    (kit / "old.txt").unlink()
    (videos / METHODS[1] / "ben.mp4").rename(videos / METHODS[1] / "bert.mp4")
    with pytest.raises(OptionError, match="method 'theirs & <co>' has no clip 'ben'"):
        make_kit(videos, kit)
    (videos / METHODS[1] / "bert.mp4").rename(videos / METHODS[1] / "ben.avi")
    with pytest.raises(MediaError, match="convert it to .mp4"):
        make_kit(videos, kit)
    (videos / METHODS[1] / "ben.avi").unlink()
    (videos / METHODS[1] / "ben.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match="ben.mp4"):
        make_kit(videos, kit)
    assert not list(kit.iterdir())
    with pytest.raises(OptionError, match="seed"):
        make_kit(videos, kit, -1)
    for folder in (kit, tmp_path / "nothing"):
        with pytest.raises(OptionError, match="per method"):
            make_kit(folder, tmp_path / "new")
    with pytest.raises(OptionError, match="no rating kit"):
        read_kit(videos)


def test_every_control_of_the_page_has_a_name(videos: Path, tmp_path: Path) -> None:
    make_kit(videos, tmp_path / "kit")
    page = (tmp_path / "kit" / PAGE).read_text(encoding="utf-8")
    assert '<html lang="en">' in page and 'name="viewport"' in page and "prefers-color-scheme" in page
    for wanted in (
        '<label for="rater">',
        "aria-describedby",
        'role="alert"',
        'alt="The photograph',
        'aria-label="The video',
        ":focus-visible",
        'createElement("legend")',
    ):
        assert wanted in page, wanted
    assert page.count("<button") == page.count("</button>") and not re.search(r"<button[^>]*></button>", page)


def test_the_pages_logic_orders_by_seed_and_rater_and_writes_what_is_read(videos: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    make_kit(videos, tmp_path / "kit", 3)
    data = read_kit(tmp_path / "kit")
    page = (tmp_path / "kit" / PAGE).read_text(encoding="utf-8")
    logic = re.search(r'<script id="logic">(.*?)</script>', page, re.DOTALL)[1]
    rater = 'Dr. "Eva", née Ü'
    script = f"""{logic}
    const kit = {json.dumps(data)}, rater = {json.dumps(rater)};
    const answers = Object.fromEntries(kit.videos.slice(0, 5).map((video, index) =>
      [video.id, {{identity: 1 + index % 5, visual: 3, lip_sync: 5}}]));
    const orders = [rater, rater, "other", ...Array(200).keys()].map((name) => orderFor(kit, String(name)));
    console.log(JSON.stringify([orders, csvOf(kit, rater, orders[0], answers), fileNameFor(kit, rater)]));"""
    ran = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True)
    orders, text, name = json.loads(ran.stdout)
    assert orders[0] == orders[1] != orders[2] and all(sorted(order) == list(range(6)) for order in orders)
    first = np.bincount([order[0] for order in orders], minlength=6)
    assert first.min() > 15, "every video comes first about as often"
    path = tmp_path / name
    assert re.fullmatch(rf"answers_{data['kit']}_[A-Za-z0-9_]+\.csv", name)
    path.write_bytes(text.encode())
    answers = read_answers(path)
    assert [answer.video for answer in answers] == [data["videos"][index]["id"] for index in orders[0]]
    assert {answer.rater for answer in answers} == {rater} and sum(len(answer.scores) for answer in answers) == 15
    report = run_opinions([path], tmp_path / "kit")
    assert report["remarks"] == [f"{rater} left 1 of 6 videos without all scores; what was given counts"]


#: What a rater does with the keyboard and the mouse; the page's state stands in the title at last.
ACTS = """<script>addEventListener("load", () => {
  const at = (id) => document.getElementById(id), said = [];
  const send = (form) => at(form).requestSubmit();
  let saved = "";
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { blob.text().then((text) => { saved = text; }); return make(blob); };
  HTMLAnchorElement.prototype.click = function () { said.push(this.download); };
  send("begin-form"); said.push(at("begin-wrong").textContent);
  at("rater").value = "  Tester 7 "; send("begin-form");
  said.push(at("rate-title").textContent, document.activeElement.id);
  send("rate-form"); said.push(at("rate-wrong").textContent, document.activeElement.name);
  const total = at("progress").max;
  for (let video = 0; video < total; video++) {
    for (const [index, name] of ["identity", "visual", "lip_sync"].entries())
      document.querySelectorAll(`input[name=${name}]`)[(video + index) % 5].click();
    if (video === 1) {
      at("back").click();
      said.push([...document.querySelectorAll("input:checked")].map((radio) => radio.value).join(""));
      send("rate-form");
    }
    send("rate-form");
  }
  said.push(at("end-title").textContent, at("end-text").textContent, at("progress").value);
  at("save").click();
  said.push(document.documentElement.scrollWidth <= innerWidth ? "fits" : "too wide");
  setTimeout(() => { document.body.dataset.said = JSON.stringify(said.concat(saved)); }, 200);
});</script>"""


def test_a_rater_comes_through_the_page_in_a_browser(videos: Path, tmp_path: Path) -> None:
    browser = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs a headless browser")
    kit = tmp_path / "kit"
    make_kit(videos, kit)
    page = (kit / PAGE).read_text(encoding="utf-8")
    (kit / PAGE).write_text(page.replace("</body>", ACTS + "</body>"), encoding="utf-8")
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"]
    ran = subprocess.run(
        [browser, *words, "--window-size=320,800", "--dump-dom", (kit / PAGE).as_uri()], capture_output=True, text=True, timeout=120
    )
    import html

    found = re.search(r'data-said="([^"]*)"', ran.stdout)
    assert found, ran.stderr[-2000:]
    said = json.loads(html.unescape(found[1]))
    assert said[0].startswith("Give a name") and said[1:3] == ["Video 1 of 6", "rate-title"]
    assert said[3:5] == ["Choose a score for: Likeness of the person.", "identity"] and said[5] == "123"
    assert said[6:9] == ["Thank you", "You have rated 6 of 6 videos.", 6]
    assert said[9].endswith("_Tester_7.csv") and said[10] == "fits"
    path = tmp_path / said[9]
    path.write_bytes(said[11].encode())
    report = run_opinions([path], kit)
    assert report["remarks"] == [] and report["raters"] == ["Tester 7"]
    assert sum(report["methods"][method]["visual"]["scores"] for method in METHODS) == 6


# -- the answers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kit(videos: Path, tmp_path: Path) -> Path:
    make_kit(videos, tmp_path / "kit")
    return tmp_path / "kit"


def test_means_and_intervals_are_those_of_students_distribution(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read_kit(kit)
    given = {"r1": (5, 4, 3), "r2": (4, 4, 2), "r3": (3, 4, 5)}
    scores = {rater: {METHODS[0]: own, METHODS[1]: (1, 2, 3)} for rater, own in given.items()}
    files = [write_answers(tmp_path / f"{rater}.csv", data, rater, found) for rater, found in scores.items()]
    out = tmp_path / "scores.json"
    assert main(["evaluate", "opinions", "--answers", *map(str, files), "--kit", str(kit), "-o", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    ours = report["methods"][METHODS[0]]
    assert ours["identity"]["mean"] == pytest.approx(4.0) and ours["identity"]["raters"] == 3 and ours["identity"]["scores"] == 9
    # t(0.975, 2) = 4.302653; the standard deviation of 5, 4, 3 is 1.
    assert ours["identity"]["half_width"] == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert ours["visual"]["half_width"] == 0.0
    assert ours["lip_sync"]["half_width"] == pytest.approx(4.302653 * np.std([3, 2, 5], ddof=1) / np.sqrt(3), rel=1e-5)
    shown = capsys.readouterr().out
    assert "| ours | 4.00 ± 2.48 | 4.00 ± 0.00 | 3.33 ± 3.79 |" in shown and "t(0.975, R - 1) s / sqrt(R)" in shown
    assert report["remarks"] == [] and out.with_suffix(".md").read_text(encoding="utf-8").strip() in shown
    # The codes in the files are enough.
    assert run_opinions(files)["methods"] == report["methods"]


def test_incomplete_and_repeated_answers_are_named(kit: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = read_kit(kit)
    same = {method: (3, 3, 3) for method in METHODS}
    files = [
        write_answers(tmp_path / "1.csv", data, "Ann", {method: (1, 1, 1) for method in METHODS}),
        write_answers(tmp_path / "2.csv", data, "Ann", same),
        write_answers(tmp_path / "3.csv", data, "Bob", {METHODS[0]: (5, "", 5), METHODS[1]: (5, 5, 5)}, only=5),
    ]
    report = run_opinions(files, kit)
    assert report["remarks"][0] == "Ann answered 6 videos more than once; the last answer counts"
    assert re.fullmatch(r"Bob left \d of 6 videos without all scores; what was given counts", report["remarks"][1])
    assert all(remark in caplog.text for remark in report["remarks"])
    opinion = report["methods"][METHODS[0]]
    assert opinion["identity"]["mean"] == pytest.approx(4.0), "the last answer counts, and every rater as much"
    visual = opinion["visual"]
    assert (visual["mean"], visual["half_width"], visual["reason"]) == (3.0, None, "one rater has no interval")
    only = run_opinions([files[2]])
    assert only["methods"][METHODS[0]]["visual"]["mean"] is None


def test_malformed_files_are_refused_with_one_sentence(kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read_kit(kit)
    good = write_answers(tmp_path / "good.csv", data, "Ann", {method: (3, 3, 3) for method in METHODS}).read_text(encoding="utf-8")
    code = data["videos"][0]["code"]
    for number, (content, words) in enumerate(
        (
            (b"\xff\xfe\x00", "not CSV in UTF-8"),
            (b"a,b\n1,2\n", "its first line is not kit,rater"),
            (good.replace(",", ";").encode(), "its first line is not kit,rater"),
            (",".join(COLUMNS).encode(), "holds no answer"),
            (good.replace("3,3,3", "3,3", 1).encode(), "line 2: 7 cells instead of 8"),
            (good.replace("3,3,3", "3,6,3", 1).encode(), "line 2: visual is '6'; scores are whole numbers"),
            (good.replace("3,3,3", "3,3,4.5", 1).encode(), "line 2: lip_sync is '4.5'"),
            (good.replace(",Ann,", ",,", 1).encode(), "line 2: kit, rater or video is empty"),
            (good.replace(code, "????", 1).encode(), "line 2: the code of the video is damaged"),
            (good.replace(code, encoded("x", "y"), 1).encode(), "answers another kit"),
            (good.replace(data["kit"], "0" * 12).encode(), "answers another kit"),
            (b"", "empty file"),
        )
    ):
        path = tmp_path / f"{number}.csv"
        path.write_bytes(content)
        assert main(["evaluate", "opinions", "--answers", str(path), "--kit", str(kit)]) == 2, words
        said = capsys.readouterr().err.strip()
        assert words in said and "\n" not in said, said
    assert main(["evaluate", "opinions", "--answers", str(tmp_path / "good.csv"), "--kit", str(tmp_path)]) == 2
    assert "no rating kit" in capsys.readouterr().err
    with pytest.raises(OutputError, match="is an input"):
        run_opinions([tmp_path / "good.csv"], kit, tmp_path / "good.csv")
