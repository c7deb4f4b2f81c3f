// The page of an exported portrait: shows the head that the file holds, and plays its voice with the curves that belong to it.
const byId = (id) => document.getElementById(id);
const bytesOf = (id) => Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

// What the list of expressions shows: curves at their values.
const EXPRESSIONS = {
  "At rest": {},
  Smile: { mouthSmileLeft: 0.7, mouthSmileRight: 0.7, cheekSquintLeft: 0.4, cheekSquintRight: 0.4 },
  Surprise: { browInnerUp: 0.7, browOuterUpLeft: 0.6, browOuterUpRight: 0.6, eyeWideLeft: 0.6, eyeWideRight: 0.6, jawOpen: 0.25 },
  Frown: { browDownLeft: 0.8, browDownRight: 0.8, mouthFrownLeft: 0.5, mouthFrownRight: 0.5 },
  "Eyes closed": { eyeBlinkLeft: 1, eyeBlinkRight: 1 },
  "Mouth open": { jawOpen: 0.6 },
  "Kiss": { mouthPucker: 0.8 },
};
// A turn by a key, and round by itself (radians a second).
const STEP_RAD = 0.1, ROUND_RAD = 0.4;

class Voice {
  // Sound and curves of the file; quiet when it has none.
  constructor(motion, sound) {
    this.frames = motion.frames;
    this.fps = motion.fps;
    this.names = motion.curves;
    this.curves = Uint8Array.from(atob(motion.values), (letter) => letter.charCodeAt(0));
    const poses = Uint8Array.from(atob(motion.poses), (letter) => letter.charCodeAt(0));
    this.poses = new Int16Array(poses.buffer);
    this.audio = new Audio(URL.createObjectURL(new Blob([sound], { type: byId("sound").dataset.type })));
  }

  at(seconds) {
    // Curves, the head's rotation and gaze between two frames.
    const place = Math.min(Math.max(seconds * this.fps, 0), this.frames - 1);
    const first = Math.floor(place), second = Math.min(first + 1, this.frames - 1), share = place - first;
    const count = this.names.length, values = {};
    for (let k = 0; k < count; k++) {
      values[this.names[k]] = (this.curves[first * count + k] * (1 - share) + this.curves[second * count + k] * share) / 255;
    }
    const angle = (k) => ((this.poses[first * 5 + k] * (1 - share) + this.poses[second * 5 + k] * share) / 32767) * Math.PI;
    const pose = [0, 1, 2, 3, 4].map(angle);
    return { values, rotation_rad: pose.slice(0, 3), gaze: pose.slice(3) };
  }
}

function idle(seconds) {
  // A portrait that waits: it blinks, and sways a little.
  const values = {}, blink = Math.abs(((seconds + 1.5) % 3.7) - 0.12) / 0.12;
  values.eyeBlinkLeft = values.eyeBlinkRight = blink < 1 ? 1 - blink * blink : 0;
  const yaw = 0.025 * Math.sin(0.7 * seconds), pitch = 0.012 * Math.sin(1.1 * seconds + 1);
  return { values, rotation_rad: [pitch, yaw, 0], gaze: [0, 0] };
}

async function start() {
  const canvas = byId("view"), stage = byId("stage");
  const viewer = await Viewer.open(canvas, bytesOf("avatar").buffer, { isAllAround: true });
  followHand(canvas, () => viewer);
  let isTurning = false;
  const turnRound = (wanted) => {
    isTurning = wanted;
    byId("turn").setAttribute("aria-pressed", String(wanted));
  };
  const front = () => { turnRound(false); viewer.front(); };

  const motion = JSON.parse(byId("motion").textContent);
  const voice = motion ? new Voice(motion, bytesOf("sound")) : null;
  const list = byId("expression");
  for (const name of Object.keys(EXPRESSIONS)) list.add(new Option(name, name));

  const play = () => {
    if (!voice) return;
    if (voice.audio.paused) voice.audio.play(); else voice.audio.pause();
  };
  const mute = () => {
    if (!voice) return;
    voice.audio.muted = !voice.audio.muted;
    byId("mute").setAttribute("aria-pressed", String(voice.audio.muted));
  };
  const turn = () => turnRound(!isTurning);
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen());
  byId("play").addEventListener("click", play);
  byId("mute").addEventListener("click", mute);
  byId("turn").addEventListener("click", turn);
  byId("reset").addEventListener("click", front);
  byId("full").addEventListener("click", full);
  const keys = { " ": play, m: mute, t: turn, r: front, f: full, "+": () => viewer.orbit(0, 0, 0.9), "-": () => viewer.orbit(0, 0, 1.1) };
  const arrows = { ArrowLeft: [-STEP_RAD, 0], ArrowRight: [STEP_RAD, 0], ArrowUp: [0, -STEP_RAD], ArrowDown: [0, STEP_RAD] };
  document.addEventListener("keydown", (event) => {
    const on = event.target.tagName;
    if (event.ctrlKey || event.metaKey || event.altKey || on === "SELECT" || on === "INPUT") return;
    if (on === "BUTTON" && event.key === " ") return;
    const act = keys[event.key.toLowerCase()], way = arrows[event.key];
    if (act) act(); else if (way) viewer.orbit(...way); else return;
    event.preventDefault();
  });
  if (voice) {
    byId("voice").hidden = false;
    const position = byId("position");
    const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
    const length = voice.frames / voice.fps;
    position.max = String(length);
    voice.audio.addEventListener("timeupdate", () => {
      position.value = String(voice.audio.currentTime);
      byId("time").textContent = `${clock(voice.audio.currentTime)} of ${clock(length)}`;
    });
    const label = () => { byId("play").textContent = voice.audio.paused ? "Play" : "Pause"; };
    for (const event of ["play", "pause", "ended"]) voice.audio.addEventListener(event, label);
    position.addEventListener("input", () => { voice.audio.currentTime = Number(position.value); });
    byId("time").textContent = `0:00 of ${clock(length)}`;
  }

  const began = performance.now();
  const quiet = () => (calm ? { values: {}, rotation_rad: [0, 0, 0], gaze: [0, 0] } : idle((performance.now() - began) / 1000));
  let before = began;
  const draw = () => {
    const speaks = voice && (!voice.audio.paused || (voice.audio.currentTime > 0 && !voice.audio.ended));
    const moment = performance.now(), now = speaks ? voice.at(voice.audio.currentTime) : quiet();
    const wanted = { ...Object.fromEntries([...viewer.curves.keys()].map((name) => [name, 0])), ...now.values, ...looks(...now.gaze) };
    for (const [name, value] of Object.entries(EXPRESSIONS[list.value] || {})) wanted[name] = Math.min((wanted[name] || 0) + value, 1);
    viewer.setCurves(wanted);
    viewer.setPose(now.rotation_rad, [0, 0, 0]);
    if (isTurning) viewer.orbit(((moment - before) / 1000) * ROUND_RAD, 0);
    before = moment;
    requestAnimationFrame(draw);
  };
  draw();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("problem").hidden = false;
  const remedy = "The page needs WebGL 2; switch on hardware acceleration or use another browser.";
  byId("problem").textContent = `The portrait cannot be shown: ${error.message}. ${remedy}`;
});
