import { startLive } from "./live.js";

const $ = (id) => document.getElementById(id);
const api = async (path, options = {}) => {
  let response;
  try { response = await fetch(path, options); } catch { throw { message: "The server does not answer; is it still running?" }; }
  if (response.ok) return response;
  let body = {};
  try { body = (await response.json()).error ?? {}; } catch { /* an answer without words */ }
  throw { message: words(body) || "The server could not do that.", field: body.field };
};
const words = (error) => [error?.message, error?.remedy].filter(Boolean).join(" ");
const say = (id, error) => { $(id).textContent = words(error); };

let avatar = null;
let example = null;   // the example voice, once loaded
let driver = null;    // File or Blob that moves the portrait
let watched = null;   // id of the video whose progress is shown

// -- tabs ----------------------------------------------------------------------------------------------------------------
const tabs = [...document.querySelectorAll("[role=tab]")];
const open = (tab) => {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", chosen);
    one.tabIndex = chosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  $("who").hidden = tab.id === "tab-check";
};
tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(index + step + tabs.length) % tabs.length];
    next.focus();
    open(next);
  });
});

// -- portraits -----------------------------------------------------------------------------------------------------------
async function showAvatars(choose) {
  const { data } = await (await api("/v1/avatars")).json();
  const box = $("avatars");
  box.replaceChildren(...data.map((one) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "avatar", value: one.id });
    input.setAttribute("aria-label", one.name);
    const image = Object.assign(document.createElement("img"), { src: `/v1/avatars/${one.id}/preview.jpg`, alt: one.name });
    input.addEventListener("change", () => chooseAvatar(one.id));
    label.append(input, image);
    return label;
  }));
  const wanted = choose ?? avatar ?? data.find((one) => one.name === "portrait")?.id ?? data[0]?.id;
  if (!wanted) return data.length;
  const input = box.querySelector(`input[value="${wanted}"]`);
  if (input) { input.checked = true; chooseAvatar(wanted); }
  return data.length;
}

function chooseAvatar(id) {
  avatar = id;
  showStill();
}

async function addPhoto(file) {
  say("photo-error");
  if (!$("consent").checked) { say("photo-error", { message: "Tick the box first: may you animate this person?" }); return; }
  const form = new FormData();
  form.append("photo", file);
  form.append("name", file.name ?? "photo");
  form.append("consent", "true");
  $("photo-drop").querySelector("span").textContent = "Looking for the face …";
  try {
    const made = await (await api("/v1/avatars", { method: "POST", body: form })).json();
    await showAvatars(made.id);
  } catch (error) { say("photo-error", error); }
  $("photo-drop").querySelector("span").textContent = "Add a photo";
}
$("photo").addEventListener("change", (event) => { const [file] = event.target.files; event.target.value = ""; if (file) addPhoto(file); });

for (const drop of document.querySelectorAll(".drop")) {
  const input = drop.querySelector("input");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length || input.disabled) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  });
}

// -- the still and its sliders -------------------------------------------------------------------------------------------
const SLIDERS = [
  ["Turn", "yaw", -25, 25, 1], ["Nod", "pitch", -18, 18, 1], ["Tilt", "roll", -18, 18, 1],
  ["Mouth open", "jawOpen", 0, 1, 0.05], ["Smile", "mouthSmile", 0, 1, 0.05], ["Pout", "mouthPucker", 0, 1, 0.05],
  ["Blink", "eyeBlink", 0, 1, 0.05], ["Brows up", "browOuterUp", 0, 1, 0.05],
  ["Look aside", "gazeYaw", -25, 25, 1], ["Look up", "gazePitch", -20, 20, 1],
];
for (const [name, id, low, high, step] of SLIDERS) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", id: `s-${id}`, min: low, max: high, step, value: 0 });
  input.addEventListener("input", showStill);
  label.append(name, input);
  $("sliders").append(label);
}
const slider = (id) => Number($(`s-${id}`).value);
$("reset").addEventListener("click", () => { for (const [, id] of SLIDERS) $(`s-${id}`).value = 0; showStill(); });

function stillRequest() {
  const curves = {};
  for (const id of ["jawOpen", "mouthPucker"]) if (slider(id)) curves[id] = slider(id);
  for (const id of ["mouthSmile", "eyeBlink", "browOuterUp"]) if (slider(id)) curves[`${id}Left`] = curves[`${id}Right`] = slider(id);
  return { curves, yaw: slider("yaw"), pitch: slider("pitch"), roll: slider("roll"), gaze: [slider("gazePitch"), slider("gazeYaw")],
    emotion: $("emotion").value, background: $("background").value || null };
}

let asking = false, askAgain = false;
async function showStill() {
  if (!avatar) return;
  showVideo(null);
  if (asking) { askAgain = true; return; }
  asking = true;
  do {
    askAgain = false;
    try {
      const response = await api(`/v1/avatars/${avatar}/still`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(stillRequest()) });
      const old = $("still").src;
      $("still").src = URL.createObjectURL(await response.blob());
      if (old.startsWith("blob:")) URL.revokeObjectURL(old);
      say("video-error");
    } catch (error) { say("video-error", error); }
  } while (askAgain);
  asking = false;
}
for (const id of ["emotion", "background"]) $(id).addEventListener("change", showStill);

// -- what moves it -------------------------------------------------------------------------------------------------------
function takeDriver(file, name) {
  driver = file;
  $("driver-name").textContent = name;
  const isSound = document.querySelector("input[name=kind]:checked").value === "audio";
  $("heard").hidden = !isSound;
  if (isSound) $("heard").src = URL.createObjectURL(file);
}
$("driver").addEventListener("change", (event) => { const [file] = event.target.files; if (file) takeDriver(file, file.name); });

let recorder = null;
$("record").addEventListener("click", async () => {
  say("driver-error");
  if (recorder) { recorder.stop(); return; }
  if (!navigator.mediaDevices) { say("driver-error", { message: "A browser gives the microphone to pages of this machine or over HTTPS only." }); return; }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      takeDriver(new Blob(parts, { type: recorder.mimeType }), "Your recording");
      recorder = null;
      $("record").textContent = "Record";
    };
    recorder.start();
    $("record").textContent = "Stop recording";
  } catch { say("driver-error", { message: "The microphone could not be opened; allow it in the browser." }); }
});

// -- videos --------------------------------------------------------------------------------------------------------------
function options() {
  return { quality: $("quality").value, emotion: $("emotion").value, head_motion: Number($("head_motion").value),
    mouth_gain: Number($("mouth_gain").value), background: $("background").value || null, full_frame: $("full_frame").checked };
}

$("go").addEventListener("click", async () => {
  for (const id of ["video-error", "driver-error"]) say(id);
  if (!avatar) { say("video-error", { message: "Add a photo first." }); return; }
  const kind = document.querySelector("input[name=kind]:checked").value;
  if (!driver && kind === "audio") driver = example;
  if (!driver) { say("driver-error", { message: `Choose a ${kind === "audio" ? "voice" : "video"} first.` }); return; }
  const form = new FormData();
  form.append("avatar", avatar);
  form.append(kind, driver, driver.name ?? "driver");
  form.append("options", JSON.stringify(options()));
  try {
    const made = await (await api("/v1/videos", { method: "POST", body: form })).json();
    watch(made.id);
  } catch (error) { say(["audio", "driving"].includes(error.field) ? "driver-error" : "video-error", error); }
});

function watch(id) {
  watched = id;
  $("progress").hidden = $("cancel").hidden = false;
  const events = new EventSource(`/v1/videos/${id}/events`);
  const told = (event) => {
    const video = JSON.parse(event.data);
    if (watched !== id) { events.close(); return; }
    $("progress").value = video.progress;
    $("state").textContent = video.status === "queued" ? `Waiting: ${video.position} before it.` : `Making the video: ${video.progress} %`;
    if (event.type === "completed" || event.type === "failed") {
      events.close();
      $("progress").hidden = $("cancel").hidden = true;
      $("state").textContent = "";
      if (event.type === "completed") showVideo(id);
      else if (video.error?.code !== "E_CANCELLED") say("video-error", video.error);
      else $("state").textContent = "Cancelled.";
    }
    showQueue();
  };
  for (const kind of ["progress", "completed", "failed"]) events.addEventListener(kind, told);
}
$("cancel").addEventListener("click", async () => { try { await api(`/v1/videos/${watched}`, { method: "DELETE" }); } catch (error) { say("video-error", error); } });

function showVideo(id) {
  const video = $("video");
  $("still").hidden = Boolean(id);
  video.hidden = $("download").hidden = $("again").hidden = !id;
  if (!id) { video.pause(); video.removeAttribute("src"); return; }
  video.src = $("download").href = `/v1/videos/${id}/content`;
  $("download").download = "portrait.mp4";
  video.play().catch(() => { /* the browser wants a click first */ });
}
$("again").addEventListener("click", showStill);

const WORDS = { queued: "waiting", in_progress: "being made", completed: "ready", failed: "failed" };
async function showQueue() {
  const { data } = await (await api("/v1/videos?limit=20")).json();
  $("queue").replaceChildren(...data.map((video) => {
    const row = document.createElement("li");
    const text = Object.assign(document.createElement("span"), { className: "grow" });
    const when = new Date(video.created_at * 1000).toLocaleTimeString();
    const cancelled = video.error?.code === "E_CANCELLED";
    text.textContent = `${when}: ${cancelled ? "cancelled" : WORDS[video.status]}${video.status === "failed" && !cancelled ? `. ${words(video.error)}` : ""}`;
    row.append(text);
    const button = (label, act) => { const one = Object.assign(document.createElement("button"), { type: "button", textContent: label }); one.addEventListener("click", act); row.append(one); };
    if (video.status === "completed") button("Show", () => showVideo(video.id));
    button(["queued", "in_progress"].includes(video.status) ? "Cancel" : "Delete", async () => {
      try { await api(`/v1/videos/${video.id}`, { method: "DELETE" }); } catch (error) { say("video-error", error); }
      showQueue();
    });
    return row;
  }));
  return data;
}

// -- the same elsewhere --------------------------------------------------------------------------------------------------
async function copy(text, what) {
  try { await navigator.clipboard.writeText(text); $("copied").textContent = `${what} copied.`; } catch { $("copied").textContent = text; }
}
const driverName = () => driver?.name ?? "voice.wav";
$("copy-command").addEventListener("click", () => {
  const o = options(), kind = document.querySelector("input[name=kind]:checked").value;
  const flags = [`--${kind} ${driverName()}`, o.quality !== "standard" && `--quality ${o.quality}`, o.emotion !== "neutral" && `--emotion ${o.emotion}`,
    o.head_motion !== 1 && `--head-motion ${o.head_motion}`, o.mouth_gain !== 1 && `--mouth-gain ${o.mouth_gain}`,
    o.background && `--background ${o.background}`, o.full_frame && "--full-frame"];
  copy(`triportrait animate photo.jpg ${flags.filter(Boolean).join(" ")} -o out.mp4`, "Command");
});
$("copy-python").addEventListener("click", () => {
  const o = options(), verb = document.querySelector("input[name=kind]:checked").value === "audio" ? "talk" : "drive";
  const drive = [o.emotion !== "neutral" && `emotion="${o.emotion}"`, o.head_motion !== 1 && `head_motion=${o.head_motion}`, o.mouth_gain !== 1 && `mouth_gain=${o.mouth_gain}`].filter(Boolean).join(", ");
  const save = [o.full_frame && "full_frame=True", o.background && `background=Background("${o.background}")`].filter(Boolean).map((part) => `, ${part}`).join("");
  copy(`from triportrait import DriveOptions, Portrait\n\nportrait = Portrait.from_image("photo.jpg", quality="${o.quality}")\nportrait.${verb}("${driverName()}", DriveOptions(${drive})).save("out.mp4"${save})`, "Python");
});

// -- check ---------------------------------------------------------------------------------------------------------------
$("suspect").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  say("check-error");
  $("verdict").textContent = "Looking …";
  const form = new FormData();
  form.append("file", file);
  try { $("verdict").textContent = (await (await api("/v1/detect", { method: "POST", body: form })).json()).text; }
  catch (error) { $("verdict").textContent = ""; say("check-error", error); }
});

startLive({ api, say, avatar: () => avatar });

// -- the first visit -----------------------------------------------------------------------------------------------------
try { const response = await fetch("/v1/example.wav"); if (response.ok) { example = new File([await response.blob()], "example.wav"); takeDriver(example, "The example sentence"); } } catch { /* none */ }
try {
  for (let tries = 0; tries < 40 && !(await showAvatars()); tries += 1) await new Promise((done) => { setTimeout(done, 500); });
  const running = (await showQueue()).find((video) => ["queued", "in_progress"].includes(video.status));
  if (running) watch(running.id);
} catch (error) { say("photo-error", error); }
