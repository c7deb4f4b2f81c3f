"""The page in a real browser, as a person uses it: Chromium without a window, through Playwright.

They need ``pip install 'triportrait[page]'`` and Chromium (Debian's package ``chromium``, or the path in ``TRIPORTRAIT_CHROMIUM``), and
otherwise skip themselves. The accessibility check needs axe-core (``npm pack axe-core``), whose ``axe.min.js`` ``TRIPORTRAIT_AXE`` names.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import triportrait
from triportrait.motion.exports import LIVE_LINK_CURVES

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests drive a browser: pip install 'triportrait[page]'")

CHROMIUM = os.environ.get("TRIPORTRAIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
AXE = os.environ.get("TRIPORTRAIT_AXE")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="the page's tests need Chromium: apt-get install chromium"),
    # One of them makes videos for minutes on a slow machine.
    pytest.mark.timeout(900),
]
EXAMPLES = Path(triportrait.__file__).parent / "app" / "examples"
FLAGS = [
    *(
        "--no-sandbox",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ),
    # Three dimensions without a graphics card, sound without a click, a microphone and a camera of test pictures.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
]
LONG_MS = 300_000


class Served:
    """A server of its own, as a person starts it."""

    def __init__(self, folder: Path, *more: str) -> None:
        self._command = [sys.executable, "-m", "triportrait", "serve", "--folder", str(folder), *more]
        self.address = ""
        self.start("0")

    def start(self, port: str) -> None:
        self.process = subprocess.Popen([*self._command, "--port", port], stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        said = ""
        while "http://" not in said:
            said = self.process.stdout.readline()
            assert said, "the server ended before it began"
        self.address = said.split()[0]

    @property
    def port(self) -> str:
        return self.address.split(":")[2].split("/")[0]

    def workers(self) -> list[int]:
        """Processes of videos that this server started."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words, parent = (folder / "cmdline").read_text(), (folder / "stat").read_text().rsplit(")", 1)[1].split()[1]
            except OSError:
                continue
            if "triportrait.app.worker" in words and int(parent) == self.process.pid:
                found.append(int(folder.name))
        return found

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(20)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("served"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browsers() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        yield play.chromium


@pytest.fixture(scope="module")
def browser(browsers: Any) -> Iterator[Any]:
    one = browsers.launch(executable_path=CHROMIUM, args=FLAGS)
    yield one
    one.close()


@pytest.fixture(scope="module")
def light_browser(browsers: Any) -> Iterator[Any]:
    """A browser without three dimensions, which a processor would have to draw: the live portrait needs that time."""
    flags = [flag for flag in FLAGS if "swiftshader" not in flag]
    one = browsers.launch(executable_path=CHROMIUM, args=[*flags, "--disable-gpu"])
    yield one
    one.close()


class Visit:
    """A person's browser: a page, what it complained of, and whom it asked."""

    def __init__(self, browser: Any, address: str, width: int = 1440, height: int = 900, **more: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **more)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready]")

    def until_ready(self) -> Any:
        """The page, once it shows the chosen portrait."""
        self.page.wait_for_selector("#still[src^=blob]", state="visible", timeout=LONG_MS)
        return self.page

    def text(self, name: str) -> str:
        return str(self.page.locator(f"#{name}").inner_text())


def until(page: Any, script: str, arg: Any = None, within_ms: float = 30_000) -> None:
    """Wait until a script is true. Playwright's own way evaluates text in the page, which the page's security policy forbids."""
    ends = time.monotonic() + within_ms / 1000.0
    while not page.evaluate(script, arg):
        assert time.monotonic() < ends, f"never true: {script}"
        page.wait_for_timeout(50)


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Visit]:
    one = Visit(browser, served.address)
    yield one
    one.context.close()
    assert not one.complaints


def drop(page: Any, target: str, path: Path) -> None:
    """Drop a file on an element, as a hand does."""
    data = page.evaluate_handle(
        """([bytes, name]) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name)); return data; }""",
        [list(path.read_bytes()), path.name],
    )
    page.dispatch_event(target, "dragover", {"dataTransfer": data})
    page.dispatch_event(target, "drop", {"dataTransfer": data})


@pytest.fixture(scope="module")
def short_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    path = tmp_path_factory.mktemp("voices") / "short.wav"
    soundfile.write(path, samples[: int(1.2 * rate_hz)], rate_hz)
    return path


@pytest.fixture(scope="module")
def long_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    path = tmp_path_factory.mktemp("voices") / "long.wav"
    soundfile.write(path, np.concatenate([samples] * 4), rate_hz)
    return path


def choose(page: Any, **options: str) -> None:
    """Set options by their fields."""
    if not page.locator("#options").get_attribute("open") is not None:
        page.locator("#options").evaluate("one => { one.open = true; }")
    for name, value in options.items():
        page.select_option(f"#{name}", value)


def make_video(page: Any, voice: Path, quality: str = "draft") -> None:
    page.set_input_files("#driver", voice)
    choose(page, quality=quality)
    page.click("#go")


def until_video(page: Any) -> list[float]:
    """Width and duration of the video that is shown once it is made."""
    page.wait_for_selector("#video:visible", timeout=LONG_MS)
    until(page, "document.getElementById('video').readyState > 0")
    return list(page.evaluate("(() => { const one = document.getElementById('video'); return [one.videoWidth, one.duration]; })()"))


def until_working(page: Any) -> None:
    """The video is being drawn."""
    until(page, "document.getElementById('progress').value > 0 && !document.getElementById('progress').hidden", within_ms=LONG_MS)


def test_1_one_click_makes_a_video(visit: Visit) -> None:
    page = visit.until_ready()
    page.click("#go")
    width, duration_s = until_video(page)
    said_s = soundfile.info(EXAMPLES / "speech.wav").duration
    assert width == 512 and abs(duration_s - said_s) <= 0.04
    assert page.locator("#download").get_attribute("href") and "ready" in visit.text("state")
    until(page, "document.getElementById('video').currentTime > 0.2")


def test_2_a_photo_of_two_and_a_voice_are_dropped(visit: Visit, astronaut: np.ndarray, short_voice: Path, tmp_path: Path) -> None:
    page = visit.until_ready()
    person = astronaut[:400, 60:360]
    Image.fromarray(np.concatenate([person, person[:, ::-1]], axis=1)).save(tmp_path / "two.png")
    before = page.locator("#avatars input:checked").get_attribute("value")
    page.check("#consent")
    drop(page, "#photo-drop", tmp_path / "two.png")
    page.wait_for_selector("#faces-dialog[open]", timeout=LONG_MS)
    faces = page.locator("#faces button")
    assert faces.count() == 2 and "2" in (faces.nth(1).get_attribute("aria-label") or "")
    faces.nth(1).click()
    until(page, "id => document.querySelector('#avatars input:checked').value !== id", arg=before, within_ms=LONG_MS)
    assert page.locator("#delete-avatar").is_visible()
    drop(page, "#driver-drop", short_voice)
    page.wait_for_selector("#trim", state="visible")
    choose(page, quality="draft")
    page.click("#go")
    width, duration_s = until_video(page)
    assert width == 512 and abs(duration_s - 1.2) <= 0.05
    page.click("#delete-avatar")
    page.click("#delete-avatar")
    until(page, "id => document.querySelector('#avatars input:checked').value === id", arg=before)


def test_3_errors_stand_under_the_field_at_fault(visit: Visit, tmp_path: Path) -> None:
    page = visit.until_ready()
    wrong, empty, large = tmp_path / "notes.txt", tmp_path / "wall.png", tmp_path / "large.jpg"
    wrong.write_text("this is no picture")
    Image.fromarray(np.full((300, 300, 3), 120, np.uint8)).save(empty)
    large.write_bytes(b"\xff\xd8" + bytes(21 << 20))
    page.set_input_files("#photo", empty)
    assert "Tick the box" in visit.text("photo-error")
    page.check("#consent")
    for path, words, remedy in ((wrong, "picture", "save it"), (empty, "face", "use"), (large, "MB", "use")):
        page.set_input_files("#photo", path)
        until(page, "document.getElementById('photo-error').textContent !== ''", within_ms=LONG_MS)
        until(page, "!document.getElementById('photo').disabled", within_ms=LONG_MS)
        said = visit.text("photo-error")
        assert words in said and remedy in said.lower(), said
        assert page.locator("#photo").get_attribute("aria-invalid") is not None
    page.set_input_files("#driver", wrong)
    choose(page, quality="draft")
    page.click("#go")
    until(page, "document.getElementById('driver-error').textContent !== ''", within_ms=LONG_MS)
    assert page.locator("#go").is_enabled() and page.locator("#progress").is_hidden()


def test_4_a_video_is_cancelled(visit: Visit, long_voice: Path) -> None:
    page = visit.until_ready()
    make_video(page, long_voice)
    until_working(page)
    page.click("#queue-open")
    page.locator("#queue li").first.get_by_role("button", name=re.compile("^Cancel")).click()
    until(page, "document.querySelector('#queue li .status').textContent === 'cancelled'", within_ms=5000)
    page.keyboard.press("Escape")
    until(page, "document.getElementById('progress').hidden", within_ms=5000)
    assert "cancelled" in visit.text("state") and not visit.text("video-error")
    page.click("#queue-open")
    row = page.locator("#queue li").first
    row.get_by_role("button", name=re.compile("^Delete")).click()
    row.get_by_role("button", name=re.compile("^Delete")).click()
    page.wait_for_selector("#queue li", state="detached")


def test_5_a_reload_finds_the_video_again(visit: Visit, long_voice: Path) -> None:
    page = visit.until_ready()
    make_video(page, long_voice)
    until_working(page)
    page.reload()
    page.wait_for_selector("#cancel", state="visible")
    until_working(page)
    page.click("#cancel")
    until(page, "document.getElementById('progress').hidden")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the test finds the server's processes in /proc")
def test_6_a_video_survives_worker_and_server(browser: Any, tmp_path: Path, long_voice: Path) -> None:
    server = Served(tmp_path)
    try:
        visit = Visit(browser, server.address)
        page = visit.until_ready()
        make_video(page, long_voice)
        until_working(page)
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        time.sleep(3.0)
        until_working(page)
        workers, port = server.workers(), server.port
        server.stop(signal.SIGKILL)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        until(page, "document.getElementById('state').textContent.includes('does not answer')")
        server.start(port)
        width, duration_s = until_video(page)
        assert width == 512 and abs(duration_s - soundfile.info(long_voice).duration) <= 0.05
        assert not visit.complaints
        visit.context.close()
    finally:
        server.stop()


def still_of(page: Any) -> str:
    """The picture that the page shows, pixel by pixel."""
    return str(
        page.evaluate("""(() => { const image = document.getElementById('still'), canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL(); })()""")
    )


def test_7_sliders_pose_the_portrait(visit: Visit) -> None:
    page = visit.until_ready()
    rest, shown = still_of(page), page.locator("#still").get_attribute("src")
    page.locator("#try-yaw").fill("15")
    until(page, "src => document.getElementById('still').src !== src", arg=shown)
    assert still_of(page) != rest
    shown = page.locator("#still").get_attribute("src")
    choose(page, background="green")
    until(page, "src => document.getElementById('still').src !== src", arg=shown)
    choose(page, background="")
    page.click("#reset")
    page.wait_for_timeout(1500)
    assert still_of(page) == rest and page.locator("#try-yaw").input_value() == "0"


# A machine with much to do draws smaller pictures; the box has one size all the same.
MOUTH = """(() => { const face = document.getElementById('face'), side = face.width, box = document.createElement('canvas');
  box.width = 96; box.height = 64;
  const context = box.getContext('2d');
  context.drawImage(face, side * .35, side * .55, side * .3, side * .2, 0, 0, 96, 64);
  return [...context.getImageData(0, 0, 96, 64).data].filter((_, i) => i % 16 === 0); })()"""


def talk_live(visit: Visit, way: str) -> None:
    """The example is said, interrupted, and ended; the mouth moves and closes, sound is heard and stops."""
    page = visit.until_ready()
    page.click("#tab-live")
    page.select_option("#live-way", way)
    watch_peers(page)
    # Only the mouth shall move.
    for name in ("head_motion", "gaze_motion", "blinks_per_minute"):
        page.locator(f"#live-{name}").fill("0")
    page.click("#start")
    page.wait_for_selector("#interrupt:enabled", timeout=LONG_MS)
    until(page, "document.getElementById('live-stats').textContent !== ''", within_ms=LONG_MS)
    if way == "rtc":  # the first pictures over a line that nobody knows yet are late
        ends = time.monotonic() + 30.0
        while decoded(page) < 10 and time.monotonic() < ends:
            page.wait_for_timeout(100)
        page.wait_for_timeout(500)
    rest = np.array(page.evaluate(MOUTH), float)

    def change() -> float:
        page.wait_for_timeout(50)
        return float(np.abs(np.array(page.evaluate(MOUTH), float) - rest).mean())

    page.click("#say-example")
    until(page, "document.getElementById('live-state').textContent.startsWith('It speaks')", within_ms=LONG_MS)
    moved, ends = 0.0, time.monotonic() + 4.0
    while time.monotonic() < ends:
        moved = max(moved, change())
    if "no time for pictures" in visit.text("live-stats"):
        pytest.skip("this machine has too much to do to draw a live portrait now")
    assert moved > 4.0
    if way == "rtc":
        count = decoded(page)
        page.wait_for_timeout(2000)
        # On a machine with time these are 50.
        assert decoded(page) > count + 10
    page.keyboard.press("Escape")
    until(page, "document.getElementById('live-state').textContent === 'Interrupted.'", within_ms=15_000)
    # A machine with much to do leaves out pictures; the mouth closes with the next one.
    ends = time.monotonic() + 90.0
    while (still_open := change()) > 0.6 * moved:
        assert time.monotonic() < ends, f"the mouth stays open: {still_open:.1f} of {moved:.1f}"
    page.select_option("#live-emotion", "happy")
    page.locator("#live-head_motion").fill("0")
    page.click("#microphone")
    until(page, "document.getElementById('microphone').getAttribute('aria-pressed') === 'true'")
    page.click("#stop")
    page.wait_for_selector("#start:enabled")
    assert not visit.text("live-error") and page.evaluate("document.activeElement.id") == "start"


def watch_peers(page: Any) -> None:
    """Keep the page's peer connections where the test finds them."""
    page.evaluate("""(() => { const Peer = RTCPeerConnection; window.peers = [];
        window.RTCPeerConnection = class extends Peer { constructor(...all) { super(...all); window.peers.push(this); } }; })()""")


def decoded(page: Any) -> int:
    """Pictures that the peer connection has decoded."""
    return int(
        page.evaluate("""peers.at(-1).getStats().then((all) =>
        [...all.values()].find((one) => one.type === 'inbound-rtp' && one.kind === 'video')?.framesDecoded ?? 0)""")
    )


def test_8_live_by_websocket(light_browser: Any, served: Served) -> None:
    visit = Visit(light_browser, served.address, width=900, height=700)
    talk_live(visit, "socket")
    visit.context.close()
    assert not visit.complaints


def test_9_live_by_webrtc(light_browser: Any, served: Served) -> None:
    pytest.importorskip("aiortc", reason="pip install 'triportrait[live]'")
    visit = Visit(light_browser, served.address, width=900, height=700)
    talk_live(visit, "rtc")
    visit.context.close()
    assert not visit.complaints


def test_9_live_as_a_head_that_the_browser_draws(visit: Visit) -> None:
    page = visit.until_ready()
    page.click("#tab-live")
    page.select_option("#live-way", "head")
    for name in ("head_motion", "gaze_motion", "blinks_per_minute"):
        page.locator(f"#live-{name}").fill("0")
    page.click("#start")
    page.wait_for_selector("#interrupt:enabled", timeout=LONG_MS)
    until(page, "document.getElementById('live-stats').textContent.includes('drawn by this browser')", within_ms=LONG_MS)
    assert page.locator("#face-head").is_visible() and not page.locator("#face").is_visible()

    def seen() -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(page.locator("#face-head").screenshot())).convert("RGB"), float)

    rest = seen()
    assert rest.std() > 20.0
    page.click("#say-example")
    until(page, "document.getElementById('live-state').textContent.startsWith('It speaks')", within_ms=LONG_MS)
    # The mouth moves more than what is above it.
    half = len(rest) // 2
    changes = [np.abs(seen() - rest) for _ in range(8)]
    assert max(change[half:].max() for change in changes) > 60.0
    assert np.mean([change[half:].mean() for change in changes]) > 2 * np.mean([change[: half // 2].mean() for change in changes])
    # A slow machine needs longer for eight pictures than the sentence lasts.
    page.click("#say-example")
    until(page, "document.getElementById('live-state').textContent.startsWith('It speaks')", within_ms=LONG_MS)
    page.keyboard.press("Escape")
    until(page, "document.getElementById('live-state').textContent === 'Interrupted.'", within_ms=15_000)
    page.click("#stop")
    page.wait_for_selector("#start:enabled")
    assert page.locator("#face").is_visible() and not page.locator("#face-head").is_visible() and not visit.text("live-error")


ONE_CURVE = """async ([place, count]) => {
  const { Viewer } = await import("/viewer.js"), set = Viewer.prototype.setCurves, Line = WebSocket, gl = WebGL2RenderingContext.prototype;
  const { createBuffer, deleteBuffer } = gl;
  window.buffers = new Set();
  gl.createBuffer = function () { const made = createBuffer.call(this); window.buffers.add(made); return made; };
  gl.deleteBuffer = function (buffer) { window.buffers.delete(buffer); deleteBuffer.call(this, buffer); };
  Viewer.prototype.setCurves = function (curves) {
    set.call(this, curves);
    window.moved = [...this.curves.keys()].filter((name) => this.amounts[this.curves.get(name)] > 0.01);
  };
  // Rows of motion as the server sends them, but for their numbers: one curve at 0.75, and nothing else.
  window.WebSocket = class extends Line {
    set onmessage(take) {
      super.onmessage = ({ data }) => {
        if (typeof data !== "string" && new DataView(data).getUint8(0) === 4) {
          if (data.byteLength !== 16 + 4 * count) throw new Error("rows have another length");
          new Float32Array(data, 16).fill(0)[place] = 0.75;
        }
        take({ data });
      };
    }
  };
}"""


def test_9_rows_of_motion_move_the_curves_that_they_name(visit: Visit) -> None:
    page = visit.until_ready()
    page.click("#tab-live")
    page.select_option("#live-way", "head")
    page.evaluate(ONE_CURVE, [LIVE_LINK_CURVES.index("jawOpen"), len(LIVE_LINK_CURVES) + 8])
    page.click("#start")
    until(page, "window.moved?.length", within_ms=LONG_MS)
    assert page.evaluate("window.moved") == ["jawOpen"] and page.evaluate("window.buffers.size") > 10
    page.click("#stop")
    page.wait_for_selector("#start:enabled")
    assert page.evaluate("window.buffers.size") == 0, "the head's graphics memory is given back"
    kept = page.evaluate("""async () => {
      const { LiveHead } = await import("/live_head.js"), head = new LiveHead(document.createElement("canvas"), null);
      for (let frame = 0; frame < 90000; frame += 1) head.take(new Float32Array(60), frame / 25);
      return head.rows.length;
    }""")
    assert 1 <= kept <= 26, "a tab that was hidden for an hour keeps a second"


def test_9_who_leaves_while_it_gets_ready_has_left(visit: Visit) -> None:
    page = visit.until_ready()
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.method, request.url.split("/v1/")[-1].split("?")[0])))
    held: list[Any] = []
    page.route("**/v1/sessions", lambda route: held.append(route))
    page.click("#tab-live")
    page.click("#start")
    ends = time.monotonic() + 30.0
    while not held and time.monotonic() < ends:
        page.wait_for_timeout(50)
    page.click("#tab-check")
    held[0].continue_()
    until(page, "!document.getElementById('start').disabled", within_ms=LONG_MS)
    page.wait_for_timeout(300)
    gone = [path for method, path in asked if method == "DELETE"]
    assert len(gone) == 1 and re.fullmatch(r"sessions/ses_[0-9a-f]+/offer", gone[0])
    assert not visit.text("live-error") and not [path for _, path in asked if path.endswith("/socket")]


def test_9_webrtc_is_offered_where_the_server_has_it(visit: Visit) -> None:
    page, has_webrtc = visit.until_ready(), find_spec("aiortc") is not None

    def ways() -> list[str]:
        page.wait_for_timeout(200)
        return list(page.evaluate("[...document.getElementById('live-way').options].map((one) => one.value)"))

    assert ways() == ["socket", "head"]
    with page.expect_response("**/v1/capabilities") as answer:
        page.click("#tab-live")
    assert answer.value.json()["webrtc"] == has_webrtc
    assert ways() == (["socket", "rtc", "head"] if has_webrtc else ["socket", "head"])
    page.route("**/v1/capabilities", lambda route: route.fulfill(json={"object": "capabilities", "webrtc": not has_webrtc}))
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert ways() == (["socket", "head"] if has_webrtc else ["socket", "rtc", "head"])


def test_9_each_way_is_prepared_as_it_will_be_asked_for(visit: Visit) -> None:
    page = visit.until_ready()
    page.route("**/v1/capabilities", lambda route: route.fulfill(json={"object": "capabilities", "webrtc": True}))
    page.click("#tab-live")
    for way, said in (("head", {"sample_rate": 24000, "video": "none"}), ("rtc", {"sample_rate": 48000, "video": "jpeg"})):
        with page.expect_request("**/v1/sessions/prepare") as asked:
            page.select_option("#live-way", way)
        told = json.loads(asked.value.post_data)
        assert told.pop("avatar").startswith("avt_") and told == said


def test_10_the_head_stands_in_space(visit: Visit, tmp_path: Path) -> None:
    page, path = visit.until_ready(), tmp_path / "head.png"
    page.click("#tab-head")
    page.wait_for_selector("#head-front:enabled", timeout=LONG_MS)

    def picture() -> np.ndarray:
        page.wait_for_timeout(700)
        page.locator("#globe").screenshot(path=str(path))
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), float)

    rest = picture()
    assert rest.std() > 20.0
    page.locator("#curve-jawOpen").fill("0.8")
    opened = picture()
    assert np.abs(opened - rest).max() > 40.0
    page.focus("#globe")
    page.keyboard.press("ArrowRight")
    turned = picture()
    assert np.abs(turned - opened).mean() > 1.0
    page.keyboard.press("0")
    page.click("#curves-reset")
    assert np.abs(picture() - rest).mean() < 0.2
    page.click("#head-play")
    until(page, "document.getElementById('head-play').textContent === 'Pause'", within_ms=LONG_MS)
    spoken = picture()
    assert np.abs(spoken - rest).max() > 20.0


def test_11_its_own_videos_are_known(visit: Visit, short_voice: Path, tmp_path: Path) -> None:
    page = visit.until_ready()
    make_video(page, short_voice)
    until_video(page)
    page.click("#tab-check")
    page.click("#check-last")
    page.wait_for_selector("#verdict .answer", timeout=LONG_MS)
    assert "is AI-generated" in visit.text("verdict") and "Watermark: " in visit.text("verdict")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "foreign.png")
    page.set_input_files("#suspect", tmp_path / "foreign.png")
    until(page, "!document.getElementById('verdict').textContent.includes('is AI-generated')", within_ms=LONG_MS)
    page.wait_for_selector("#verdict .answer", timeout=LONG_MS)
    assert "is AI-generated" not in visit.text("verdict") and not visit.text("check-error")


def test_12_no_request_leaves_the_machine(visit: Visit) -> None:
    page = visit.until_ready()
    for tab in ("live", "head", "check", "make"):
        page.click(f"#tab-{tab}")
    page.wait_for_selector("#make", state="visible")
    addresses = [url for url in visit.asked if not url.startswith(("blob:", "data:"))]
    assert addresses and all(url.startswith("http://127.0.0.1:") for url in addresses)


@pytest.mark.skipif(AXE is None, reason="set TRIPORTRAIT_AXE to axe.min.js of axe-core: npm pack axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_13_nothing_keeps_anybody_out(browser: Any, served: Served, scheme: str) -> None:
    assert AXE is not None
    visit = Visit(browser, served.address, color_scheme=scheme, bypass_csp=True)
    page = visit.until_ready()
    page.add_script_tag(path=AXE)

    def faults(where: str) -> list[str]:
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        return [f"{where}: {one['id']}: {one['nodes'][0]['html']} {one['nodes'][0].get('failureSummary', '')}" for one in found]

    found = []
    for tab in ("make", "live", "head", "check"):
        page.click(f"#tab-{tab}")
        if tab == "head":
            page.wait_for_selector("#head-front:enabled", timeout=LONG_MS)
        if tab == "make":
            page.locator("#options").evaluate("one => { one.open = true; }")
        found += faults(tab)
    for dialog in ("queue", "help"):
        page.click(f"#{dialog}-open")
        page.wait_for_timeout(500)
        found += faults(dialog)
        page.keyboard.press("Escape")
    visit.context.close()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("width", [320, 360, 768, 3840])
def test_13_the_page_fits(browser: Any, served: Served, width: int) -> None:
    visit = Visit(browser, served.address, width=width, height=800)
    page = visit.until_ready()
    for tab in ("make", "live", "head", "check"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = """[...document.querySelectorAll('main button, main a.button, main label')].filter((one) => one.offsetParent
            && !one.closest('.scroll') && (one.getBoundingClientRect().right > innerWidth + 1 || one.getBoundingClientRect().left < 0))
            .map((one) => one.textContent)"""
        assert page.evaluate(cut) == []
    visit.context.close()


def test_13_the_keyboard_reaches_everything(visit: Visit) -> None:
    page = visit.until_ready()
    page.locator("body").press("Tab")
    reached = []
    for _ in range(60):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        page.keyboard.press("Tab")
    order = ["tab-make", "queue-open", "consent", "photo", "driver", "record", "go", "preview", "try-yaw"]
    places = [reached.index(name) for name in order]
    assert places == sorted(places), reached
    page.focus("#tab-make")
    page.keyboard.press("ArrowRight")
    assert page.locator("#live").is_visible() and page.evaluate("document.activeElement.id") == "tab-live"
    page.keyboard.press("End")
    assert page.locator("#check").is_visible()
    page.keyboard.press("Home")
    page.focus("#queue-open")
    page.keyboard.press("Enter")
    assert page.locator("#queue-drawer").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "queue-open"


def test_14_two_browsers_see_nothing_of_each_other(browser: Any, served: Served, visit: Visit, short_voice: Path) -> None:
    page = visit.until_ready()
    make_video(page, short_voice)
    until_video(page)
    address = page.locator("#download").get_attribute("href")
    other = Visit(browser, served.address)
    other.until_ready()
    other.page.click("#queue-open")
    other.page.wait_for_selector("#queue-empty", state="visible")
    assert other.page.locator("#queue li").count() == 0
    assert other.page.evaluate("address => fetch(address).then((it) => it.status)", address) == 404
    other.context.close()


def test_15_a_token_opens_the_page(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open-sesame")
    server = Served(tmp_path / "data", "--token", str(tmp_path / "token"))
    try:
        context = browser.new_context()
        page = context.new_page()
        answer = page.goto(server.address.split("?")[0])
        assert answer.status == 401 and "token" in json.loads(answer.text())["error"]["message"]
        context.close()
        visit = Visit(browser, server.address)
        visit.until_ready()
        visit.context.close()
    finally:
        server.stop()


def test_16_the_copied_command_makes_the_same_video(visit: Visit, short_voice: Path, tmp_path: Path) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.until_ready()
    choose(page, emotion="happy", background="green")
    make_video(page, short_voice, "standard")
    until_video(page)
    page.click("#copy-command")
    until(page, "document.getElementById('copied').textContent !== ''")
    command = page.evaluate("navigator.clipboard.readText()")
    made = page.evaluate(
        "fetch(document.getElementById('download').href).then((it) => it.arrayBuffer()).then((it) => [...new Uint8Array(it)])"
    )
    (tmp_path / "page.mp4").write_bytes(bytes(made))
    shutil.copy(EXAMPLES / "portrait.jpg", tmp_path)
    shutil.copy(short_voice, tmp_path)
    words = shlex.split(command)
    assert words[0] == "triportrait"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)}
    subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, check=True, env=environment)

    def frames(path: Path) -> np.ndarray:
        from triportrait.media.video import VideoReader

        return np.stack([frame for _, frame in VideoReader(path)])

    first, second = frames(tmp_path / "page.mp4"), frames(tmp_path / "out.mp4")
    assert first.shape == second.shape and np.abs(first.astype(int) - second).mean() < 0.5
