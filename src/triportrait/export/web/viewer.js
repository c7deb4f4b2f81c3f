"use strict";
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
// Gaze in radians at which the curves of the eyes are 1: up, down, to a side.
const GAZE = [0.5, 0.5, 0.6];

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
    // Curves, head quaternion and gaze between two frames.
    const place = Math.min(Math.max(seconds * this.fps, 0), this.frames - 1);
    const first = Math.floor(place), second = Math.min(first + 1, this.frames - 1), share = place - first;
    const count = this.names.length, values = {};
    for (let k = 0; k < count; k++) {
      values[this.names[k]] = (this.curves[first * count + k] * (1 - share) + this.curves[second * count + k] * share) / 255;
    }
    const pose = [0, 1, 2, 3, 4, 5].map((k) => (this.poses[first * 6 + k] * (1 - share) + this.poses[second * 6 + k] * share) / 32767);
    return { values, head: pose.slice(0, 4), gaze: pose.slice(4).map((share) => share * Math.PI) };
  }
}

function withGaze(values, [pitch, yaw]) {
  const up = Math.max(pitch, 0) / GAZE[0], down = Math.max(-pitch, 0) / GAZE[1];
  const left = Math.max(yaw, 0) / GAZE[2], right = Math.max(-yaw, 0) / GAZE[2];
  return { ...values, eyeLookUpLeft: up, eyeLookUpRight: up, eyeLookDownLeft: down, eyeLookDownRight: down,
    eyeLookOutLeft: left, eyeLookInRight: left, eyeLookInLeft: right, eyeLookOutRight: right };
}

function idle(seconds) {
  // A portrait that waits: it blinks, and sways a little.
  const values = {}, blink = Math.abs(((seconds + 1.5) % 3.7) - 0.12) / 0.12;
  values.eyeBlinkLeft = values.eyeBlinkRight = blink < 1 ? 1 - blink * blink : 0;
  const yaw = 0.025 * Math.sin(0.7 * seconds), pitch = 0.012 * Math.sin(1.1 * seconds + 1);
  return { values, head: [Math.sin(pitch / 2), Math.sin(yaw / 2), 0, 1], gaze: [0, 0] };
}

async function start() {
  const canvas = byId("view"), stage = byId("stage");
  const renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true });
  const scene = new THREE.Scene(), camera = new THREE.PerspectiveCamera(24, 1, 0.05, 20);
  const data = bytesOf("avatar");
  const avatar = await new THREE.GLTFLoader().parseAsync(data.buffer, "");
  scene.add(avatar.scene);
  const head = avatar.scene.getObjectByName("Head"), meshes = [];
  avatar.scene.traverse((object) => {
    object.frustumCulled = false;
    if (object.morphTargetDictionary) meshes.push(object);
  });
  avatar.scene.updateMatrixWorld(true);
  const centre = new THREE.Vector3().setFromMatrixPosition(head.matrixWorld).add(new THREE.Vector3(0, -0.03, -0.04));
  const controls = new THREE.OrbitControls(camera, canvas);
  controls.enablePan = false;
  controls.minDistance = 0.3;
  controls.maxDistance = 3;
  controls.autoRotateSpeed = 4;
  const front = () => {
    controls.autoRotate = false;
    byId("turn").setAttribute("aria-pressed", "false");
    controls.target.copy(centre);
    camera.position.copy(centre).add(new THREE.Vector3(0, 0, 1.05));
    controls.update();
  };
  front();
  const fit = () => {
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    renderer.setSize(stage.clientWidth, stage.clientHeight, false);
    camera.aspect = stage.clientWidth / Math.max(stage.clientHeight, 1);
    camera.updateProjectionMatrix();
  };
  new ResizeObserver(fit).observe(stage);

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
  const turn = () => {
    controls.autoRotate = !controls.autoRotate;
    byId("turn").setAttribute("aria-pressed", String(controls.autoRotate));
  };
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen());
  const orbit = (yaw, pitch, zoom) => {
    const way = camera.position.clone().sub(controls.target), length = way.length() * zoom;
    const theta = Math.atan2(way.x, way.z) + yaw, phi = Math.min(Math.max(Math.asin(way.y / way.length()) + pitch, -1.2), 1.2);
    camera.position.copy(controls.target).add(
      new THREE.Vector3(Math.sin(theta) * Math.cos(phi), Math.sin(phi), Math.cos(theta) * Math.cos(phi)).multiplyScalar(Math.min(Math.max(length, 0.3), 3)));
    controls.update();
  };
  byId("play").addEventListener("click", play);
  byId("mute").addEventListener("click", mute);
  byId("turn").addEventListener("click", turn);
  byId("reset").addEventListener("click", front);
  byId("full").addEventListener("click", full);
  const keys = { " ": play, m: mute, t: turn, r: front, f: full, "+": () => orbit(0, 0, 0.9), "-": () => orbit(0, 0, 1.1) };
  const arrows = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
  document.addEventListener("keydown", (event) => {
    const on = event.target.tagName;
    if (event.ctrlKey || event.metaKey || event.altKey || on === "SELECT" || on === "INPUT") return;
    if (on === "BUTTON" && event.key === " ") return;
    const act = keys[event.key.toLowerCase()], way = arrows[event.key];
    if (act) act(); else if (way) orbit(way[0], way[1], 1); else return;
    event.preventDefault();
  });
  if (voice) {
    byId("voice").hidden = false;
    const position = byId("position"), clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
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
  const shown = {};
  const quiet = () => (calm ? { values: {}, head: [0, 0, 0, 1], gaze: [0, 0] } : idle((performance.now() - began) / 1000));
  const draw = () => {
    const speaks = voice && (!voice.audio.paused || (voice.audio.currentTime > 0 && !voice.audio.ended));
    const now = speaks ? voice.at(voice.audio.currentTime) : quiet();
    const wanted = withGaze(now.values, now.gaze), chosen = EXPRESSIONS[list.value] || {};
    for (const [name, value] of Object.entries(chosen)) wanted[name] = Math.min((wanted[name] || 0) + value, 1);
    for (const name of Object.keys(shown)) if (!(name in wanted)) wanted[name] = 0;
    for (const [name, value] of Object.entries(wanted)) {
      shown[name] = value;
      for (const mesh of meshes) {
        const index = mesh.morphTargetDictionary[name];
        if (index !== undefined) mesh.morphTargetInfluences[index] = value;
      }
    }
    head.quaternion.set(...now.head).normalize();
    controls.update();
    renderer.render(scene, camera);
    requestAnimationFrame(draw);
  };
  draw();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  byId("problem").hidden = false;
  byId("problem").textContent = `The portrait cannot be shown: ${error.message}. The page needs WebGL 2; switch on hardware acceleration or use another browser.`;
});
