// The live portrait: sound goes out as PCM, pictures and sound come back and are played by the sound's clock. Over WebRTC the browser
// plays them itself, see rtc.js.
import { get, post, remove } from "./api.js";
import { $, choice, make, say, slider, takeFiles } from "./dom.js";
import { emotionChoices } from "./options.js";
import { LiveHead } from "./live_head.js";
import { call } from "./rtc.js";
import { decode } from "./sound.js";
import { on, state } from "./state.js";
import { t } from "./strings.js";

const RATE_HZ = { socket: 24000, rtc: 48000, head: 24000 };
// Kinds of binary messages, behind a header of 16 bytes: kind, flags, reply, number, time in microseconds.
const JPEG = 1, PCM = 3, MOTION = 4, HEADER_BYTES = 16;
// So much sound is kept ready against jitter, and so much of a file is sent at a time; half a minute may wait.
const LEAD_S = 0.06, PIECE_S = 0.25, LONGEST_S = 25;
const ALIVE = ["interrupt", "stop", "speech", "microphone", "say-example"];
// Sliders: control, lowest, highest, step, usual value.
const CONTROLS = [
  ["head_motion", 0, 2, 0.1, 1], ["expressiveness", 0, 2, 0.1, 1], ["mouth_gain", 0, 2, 0.1, 1],
  ["gaze_motion", 0, 2, 0.1, 1], ["eye_contact", 0, 1, 0.1, 0.9], ["blinks_per_minute", 0, 60, 1, 26],
];

let socket = null, rate_hz = RATE_HZ.socket, film = null, head = null, context = null, output = null, offset_s = null;
let pictures = [], sources = [], asked_ms = null, microphone = null;
let shown = [];  // when the last pictures were shown, for the rate

const isOpen = () => socket?.readyState === WebSocket.OPEN || socket?.readyState === "open";
const tellServer = (message) => { if (isOpen()) socket.send(JSON.stringify(message)); };
const enable = (isAlive) => {
  ALIVE.forEach((id) => { $(id).disabled = !isAlive; });
  $("start").disabled = $("live-way").disabled = isAlive;
};
// What a way of connecting asks of the server: a browser that draws the head itself needs no pictures.
const wishOf = (way) => ({ avatar: state.avatar.id, sample_rate: RATE_HZ[way], video: way === "head" ? "none" : "jpeg" });
// A session that nobody will open keeps a place of the server's.
const forget = ({ id, token }) => remove(`/v1/sessions/${id}/offer?key=${token}`).catch(() => { /* it ends by itself in a minute */ });
const show = (name, values) => { $("live-state").textContent = name ? t(name, values) : ""; };

async function start() {
  say("live-error");
  if (!state.avatar) { say("live-error", { message: t("who.none") }); return; }
  $("start").disabled = $("live-way").disabled = true;
  show("live.starting");
  const way = $("live-way").value, wish = wishOf(way);
  // Whoever went to another tab, or took another portrait, while something was waited for has left.
  const hasLeft = () => state.avatar?.id !== wish.avatar || $("live").hidden;
  let session = null;
  rate_hz = RATE_HZ[way];
  context = new AudioContext({ sampleRate: rate_hz });
  output = context.createGain();
  output.connect(context.destination);
  try {
    // The browser draws the head itself; the server sends how it moves.
    if (way === "head") head = await LiveHead.open($("face-head"), wish.avatar);
    $("face").hidden = Boolean(head);
    if (!hasLeft()) session = await post("/v1/sessions", { ...wish, motion: Boolean(head) });
    if (way === "rtc" && !hasLeft()) ({ line: socket, film } = await call(session.offer));
    if (hasLeft()) {
      if (session) forget(session);
      socket?.close();
      end();
      return;
    }
    socket ??= new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${session.socket}`);
  } catch (error) {
    if (session) forget(session);
    say("live-error", error);
    end();
    return;
  }
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : receive(data));
  socket.onclose = end;
  requestAnimationFrame(draw);
}

function hear(message) {
  const { type } = message;
  if (type === "session.created") {
    if (head) head.names = message.curves;
    enable(true);
    show("live.listening");
    $("interrupt").focus();
    sendControls();
  }
  else if (type === "speech.started") {
    if (asked_ms === null) show("live.speaking");
    else show("live.moved", { seconds: ((performance.now() - asked_ms) / 1000).toFixed(2) });
    asked_ms = null;
  } else if (type === "speech.finished") show(message.interrupted ? "live.interrupted" : "live.listening");
  else if (type === "stats") showStats(message);
  else if (type === "input.full") say("live-error", { message: t("live.full") });
  else if (type === "error") say("live-error", message.error ?? message);
  else if (type === "session.ended") { if (message.reason) say("live-error", { message: message.reason }); socket?.close(); }
}

// The coarsest step of the server: sound without pictures.
const NO_PICTURES = "motion alone";

function showStats({ level, render_ms, dropped }) {
  if (level === NO_PICTURES && !head) {
    $("live-stats").textContent = t("live.no_pictures");
    // The last picture would stay with an open mouth.
    if (performance.now() - (shown.at(-1) ?? 0) > 1000) drawRest();
    return;
  }
  const now = performance.now();
  shown = shown.filter((moment) => now - moment < 2000);
  if (head) $("live-stats").textContent = t("live.stats_head", { fps: Math.round(shown.length / 2) });
  else {
    const size = level.slice(level.indexOf(" ") + 1);  // behind the name of what draws
    $("live-stats").textContent = t("live.stats", { fps: Math.round(shown.length / 2), render: Math.round(render_ms), size, dropped });
  }
}

function receive(buffer) {
  const view = new DataView(buffer), kind = view.getUint8(0), number = view.getUint32(4, true);
  const pts_s = Number(view.getBigUint64(8, true)) / 1e6;
  if (kind === PCM) play(new Int16Array(buffer, HEADER_BYTES), pts_s);
  else if (kind === MOTION) head?.take(new Float32Array(buffer, HEADER_BYTES), pts_s);
  else if (kind === JPEG) {
    createImageBitmap(new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: "image/jpeg" }))
      .then((image) => pictures.push({ pts_s, image, number })).catch(() => { /* the next one comes in 40 ms */ });
  }
}

function play(pcm, pts_s) {
  const block = context.createBuffer(1, pcm.length, rate_hz), samples = block.getChannelData(0);
  for (let i = 0; i < pcm.length; i += 1) samples[i] = pcm[i] / 32768;
  // The first block, or one that comes too late, sets the clock anew.
  if (offset_s === null || pts_s + offset_s < context.currentTime) offset_s = context.currentTime + LEAD_S - pts_s;
  const source = context.createBufferSource();
  source.buffer = block;
  source.connect(output);
  source.onended = () => { sources = sources.filter((one) => one !== source); };
  source.start(pts_s + offset_s);
  sources.push(source);
}

function draw() {
  if (!socket) return;
  if (film) { film.show(drawPicture); return; }
  const now_s = context.currentTime - (offset_s ?? 0);
  if (head) {
    if (offset_s !== null && head.show(now_s)) shown.push(performance.now());
    requestAnimationFrame(draw);
    return;
  }
  let next = null;
  while (pictures.length && pictures[0].pts_s <= now_s) { next?.image.close(); next = pictures.shift(); }
  if (next) {
    drawPicture(next.image, next.image.width, next.image.height);
    next.image.close();
    tellServer({ type: "ack", pictures: next.number });
  }
  requestAnimationFrame(draw);
}

function drawPicture(image, width, height) {
  const face = $("face");
  if (face.width !== width) { face.width = width; face.height = height; }
  face.getContext("2d").drawImage(image, 0, 0);
  resting = null;
  shown.push(performance.now());
}

// What was said already and waits in the browser is dropped at once; the server closes the mouth.
function interrupt() {
  tellServer({ type: "interrupt" });
  for (const source of sources) source.stop();
  sources = [];
}

const sendSamples = (samples) => {
  const pcm = Int16Array.from(samples, (value) => Math.max(-1, Math.min(1, value)) * 32767);
  if (isOpen()) socket.send(pcm.buffer);
};

async function speak(file) {
  say("live-error");
  try {
    const sound = await decode(file, rate_hz), piece = PIECE_S * rate_hz;
    const samples = sound.getChannelData(0).subarray(0, LONGEST_S * rate_hz);
    asked_ms = performance.now();
    for (let first = 0; first < samples.length; first += piece) sendSamples(samples.subarray(first, first + piece));
    tellServer({ type: "input_audio_buffer.commit" });
  } catch (error) { say("live-error", error); }
}

async function openMicrophone() {
  if (microphone) { closeMicrophone(); return; }
  if (!navigator.mediaDevices) { say("live-error", { message: t("error.insecure") }); return; }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
    await context.audioWorklet.addModule("microphone.js");
    const source = context.createMediaStreamSource(stream), node = new AudioWorkletNode(context, "microphone");
    node.port.onmessage = ({ data }) => sendSamples(data);
    source.connect(node);
    microphone = { stream, source };
    showMicrophone();
  } catch { say("live-error", { message: t("error.microphone") }); }
}

function closeMicrophone() {
  if (!microphone) return;
  microphone.source.disconnect();
  microphone.stream.getTracks().forEach((track) => track.stop());
  microphone = null;
  showMicrophone();
  tellServer({ type: "input_audio_buffer.commit" });
}

function showMicrophone() {
  $("microphone").textContent = t(microphone ? "live.microphone.off" : "live.microphone");
  $("microphone").setAttribute("aria-pressed", Boolean(microphone));
}

// Until it lives, the portrait's still stands in its place.
const showRest = () => { if (!socket && state.avatar && !$("live").hidden) drawRest(); };

// Whoever looks at this tab is likely to start soon; the server warms up meanwhile.
const prepare = () => {
  if (!socket && state.avatar && !$("live").hidden)
    post("/v1/sessions/prepare", wishOf($("live-way").value)).catch(() => { /* it starts cold */ });
};

// WebRTC is offered where both the server and the browser have it. The server loads its library for the answer, so nobody else asks.
let hasAsked = typeof RTCPeerConnection === "undefined";

async function offerWebRtc() {
  if (hasAsked) return;
  hasAsked = true;
  try {
    const { webrtc } = await get("/v1/capabilities"), way = $("live-way");
    if (webrtc) way.add(make("option", { value: "rtc", textContent: t("live.way.rtc") }), way.querySelector("[value=head]"));
  } catch { hasAsked = false; }
}

let resting = null;  // whose still stands there

async function drawRest() {
  if (resting === state.avatar.id) return;
  resting = state.avatar.id;
  const picture = new Image();
  picture.src = `/v1/avatars/${state.avatar.id}/preview.jpg`;
  await picture.decode().catch(() => { /* no picture, no place-holder */ });
  const face = $("face");
  if (resting && picture.naturalWidth) face.getContext("2d").drawImage(picture, 0, 0, face.width, face.height);
}

function sendControls() {
  const controls = { emotion: $("live-emotion").value, emotion_strength: Number($("live-emotion_strength").value) };
  for (const [name] of CONTROLS) controls[name] = Number($(`live-${name}`).value);
  tellServer({ type: "session.update", controls });
}

function end() {
  closeMicrophone();
  film?.close();
  head?.close();
  $("face").hidden = false;
  socket = film = head = offset_s = asked_ms = null;
  pictures.forEach(({ image }) => image.close());
  pictures = [];
  sources = [];
  context?.close();
  context = null;
  const wasAt = ALIVE.includes(document.activeElement?.id);
  enable(false);
  // A button that is switched off lets the keyboard fall back to the top of the page.
  if (wasAt) $("start").focus();
  $("live-stats").textContent = "";
  show($("live-error").textContent ? null : "live.ended");
  showRest();
}

export function startLive() {
  const box = $("live-controls");
  choice(box, { id: "live-emotion", name: t("options.emotion"), value: "neutral", choices: emotionChoices() }, sendControls);
  slider(box, { id: "live-emotion_strength", name: t("options.emotion_strength"), low: 0, high: 1, step: 0.1, value: 0.7 }, sendControls);
  for (const [name, low, high, step, value] of CONTROLS) {
    slider(box, { id: `live-${name}`, name: t(`options.${name}`), low, high, step, value }, sendControls);
  }
  const ways = ["socket", "head"].map((way) => [way, t(`live.way.${way}`)]);
  choice(box, { id: "live-way", name: t("live.way"), value: "socket", choices: ways }, prepare);
  $("start").addEventListener("click", start);
  $("interrupt").addEventListener("click", interrupt);
  $("stop").addEventListener("click", () => socket?.close());
  $("microphone").addEventListener("click", openMicrophone);
  $("say-example").addEventListener("click", () => speak(state.example));
  takeFiles($("speech"), speak);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && socket && !$("live").hidden && !document.querySelector("dialog[open]")) interrupt();
  });
  on("example", () => { $("say-example").hidden = !state.example; });
  // Whoever goes to another tab, or takes another portrait, has left.
  for (const event of ["avatar", "tab-make", "tab-head", "tab-check"]) on(event, () => socket?.close());
  for (const event of ["avatar", "tab-live"]) on(event, () => { showRest(); prepare(); });
  on("tab-live", offerWebRtc);
}
