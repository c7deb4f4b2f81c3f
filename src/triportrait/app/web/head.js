// The 3D avatar: the portrait as a head in space, turned by hand, moved by sliders, and speaking without the server drawing anything.
import { api } from "./api.js";
import { $, resetField, say, slider, takeFiles } from "./dom.js";
import { on, state } from "./state.js";
import { t } from "./strings.js";
import { followHand, looks, Viewer } from "./viewer.js";

const KINDS = ["glb", "html"];
const STEP_RAD = 0.1, CLOSER = 0.9, METRES = 0.1;

let viewer = null, viewed = null, motion = null, voice = null;
const player = new Audio();
const isOpen = () => !$("head").hidden;

async function show() {
  if (!isOpen() || !state.avatar || viewed === state.avatar.id) return;
  const { id } = state.avatar;
  viewed = id;
  stop();
  say("head-error");
  for (const button of ["head-play", "head-front"]) $(button).disabled = true;
  $("head-state").textContent = t("head.loading");
  try {
    const file = await (await api(`/v1/avatars/${id}/avatar.glb`)).arrayBuffer();
    if (viewed !== id) return;
    viewer?.close();
    viewer = await Viewer.open($("globe"), file);
    $("head-state").textContent = t("head.stats", { triangles: viewer.triangles.toLocaleString(), curves: viewer.curves.size, size: (file.byteLength / 1e6).toFixed(1) });
    for (const kind of KINDS) $(`head-${kind}`).href = `/v1/avatars/${id}/avatar.${kind}`;
    $("head-avatar").href = `/v1/avatars/${id}/file`;
    $("head-front").disabled = false;
    $("head-play").disabled = !(voice ?? state.example);
    showCurves();
  } catch (error) {
    viewed = null;
    $("head-state").textContent = "";
    const words = { "no WebGL": "head.no_webgl", "no binary glTF": "head.broken", "too many bones": "head.broken" }[error.message];
    say("head-error", words ? { message: t(words) } : error);
  }
}

function showCurves() {
  const box = $("curves");
  box.replaceChildren();
  const unset = [...viewer.curves.keys()].sort((a, b) => a.startsWith("viseme") - b.startsWith("viseme"));
  for (const name of unset) slider(box, { id: `curve-${name}`, name, low: 0, high: 1, step: 0.01, value: 0 }, (input) => { stop(); viewer.setCurves({ [name]: Number(input.value) }); });
  search();
}

function search() {
  const wanted = $("curve-search").value.trim().toLowerCase();
  for (const label of $("curves").children) label.hidden = !label.textContent.toLowerCase().includes(wanted);
}

// -- a voice ---------------------------------------------------------------------------------------------------------
async function play() {
  if (!player.paused) { stop(); return; }
  const file = voice ?? state.example;
  say("head-error");
  if (!motion || motion.file !== file) {
    $("head-play").disabled = true;
    $("head-state").textContent = t("head.listening");
    try {
      const said = await (await api(`/v1/avatars/${state.avatar.id}/motion`, { method: "POST", body: file })).json();
      motion = { file, ...said };
      URL.revokeObjectURL(player.src);
      player.src = URL.createObjectURL(file);
    } catch (error) { say("head-error", error); }
    $("head-state").textContent = "";
    $("head-play").disabled = false;
    if (motion?.file !== file) return;
  }
  try { await player.play(); } catch { say("head-error", { message: t("error.audio") }); return; }
  $("head-play").textContent = t("head.pause");
  requestAnimationFrame(move);
}

// The frame that belongs to the sound's moment, between its two neighbours.
function move() {
  if (player.paused || player.ended) { stop(); return; }
  const { frames, fps, expression_names: names } = motion, at = player.currentTime * fps;
  const before = frames[Math.min(Math.floor(at), frames.length - 1)], after = frames[Math.min(Math.floor(at) + 1, frames.length - 1)], share = at % 1;
  const mixed = (name) => before[name].map((value, i) => value + share * (after[name][i] - value));
  const expression = mixed("expression"), [pitch, yaw] = mixed("gaze_rad");
  viewer.setCurves({ ...Object.fromEntries(names.map((name, i) => [name, expression[i]])), ...looks(pitch, yaw) });
  viewer.setPose(mixed("rotation_rad"), mixed("translation_dm").map((value) => value * METRES));
  requestAnimationFrame(move);
}

function stop() {
  player.pause();
  $("head-play").textContent = t("head.play");
  if (!viewer) return;
  viewer.rest();
  for (const input of $("curves").querySelectorAll("input")) if (Number(input.value)) viewer.setCurves({ [input.id.slice(6)]: Number(input.value) });
}

// -- the hand --------------------------------------------------------------------------------------------------------
function startHand() {
  const canvas = $("globe");
  followHand(canvas, () => viewer);
  canvas.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [-STEP_RAD, 0], ArrowRight: [STEP_RAD, 0], ArrowUp: [0, -STEP_RAD], ArrowDown: [0, STEP_RAD], "+": [0, 0, CLOSER], "-": [0, 0, 1 / CLOSER] };
    if (!viewer || !(event.key in turns || event.key === "0")) return;
    event.preventDefault();
    if (event.key === "0") viewer.front();
    else viewer.orbit(...turns[event.key]);
  });
  // A graphics card may be taken away for a while.
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => { viewed = viewer = null; show(); });
}

export function startHead() {
  startHand();
  $("head-front").addEventListener("click", () => viewer?.front());
  $("head-play").addEventListener("click", play);
  $("curve-search").addEventListener("input", search);
  $("curves-reset").addEventListener("click", () => { for (const input of $("curves").querySelectorAll("input")) resetField(input); stop(); });
  takeFiles($("head-voice"), (file) => { stop(); voice = file; $("head-play").disabled = !viewer; play(); });
  on("tab-head", show);
  on("avatar", show);
  for (const event of ["tab-make", "tab-live", "tab-check"]) on(event, stop);
}
