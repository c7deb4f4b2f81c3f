// What moves it: a voice (file, recording or the example; a part of it), a video of a person, or a motion file.
import { $, say, takeFiles } from "./dom.js";
import { decode, wav } from "./sound.js";
import { change, on, state } from "./state.js";
import { t } from "./strings.js";

const ACCEPTED = { audio: "audio/*,video/*", driving: "video/*,image/gif", motion: ".npz,.csv" };
const files = { audio: null, driving: null, motion: null };
let sound = null;  // the voice's samples, for waveform and parts

// What is sent: { kind, file, isPart }; null where nothing is chosen yet. `limit_s` cuts a voice.
export function chosenDriver(limit_s) {
  const kind = state.kind, file = files[kind] ?? (kind === "audio" ? state.example : null);
  if (!file) return null;
  if (kind !== "audio" || !sound) return { kind, file, isPart: false };
  const [from_s, to_s] = part(), end_s = Math.min(to_s, limit_s ? from_s + limit_s : to_s);
  const isPart = from_s > 0 || end_s < sound.duration - 0.02;
  return { kind, isPart, file: isPart ? wav(sound, from_s, end_s, partName(file)) : file };
}
const partName = (file) => `${(file.name ?? "voice").replace(/\.\w+$/, "")}-part.wav`;
const part = () => [Number($("trim-from").value), Number($("trim-to").value) || sound.duration];

function showKind() {
  const { kind } = state, file = files[kind];
  $("driver").accept = ACCEPTED[kind];
  $("driver-name").textContent = file?.name ?? (kind === "audio" && state.example ? t("driver.drop.other") : t(`driver.drop.${kind}`));
  $("voice-buttons").hidden = kind !== "audio";
  $("voice").hidden = kind !== "audio" || !(file ?? state.example);
  say("driver-error");
}

async function take(file) {
  files[state.kind] = file;
  showKind();
  if (state.kind === "audio") await showVoice(file);
  change("driver", file);
}

async function showVoice(file) {
  URL.revokeObjectURL($("heard").src);
  $("heard").src = URL.createObjectURL(file);
  sound = null;
  // Long files are not decoded here: a minute of samples takes 12 MB.
  if (file.size < 40e6) try { sound = await decode(file); } catch { /* the server may read it */ }
  $("trim").hidden = !sound;
  if (!sound) return;
  for (const id of ["trim-from", "trim-to"]) $(id).max = Math.floor(sound.duration * 100) / 100;
  $("trim-from").value = 0;
  $("trim-to").value = $("trim-to").max;
  showPart();
}

function showPart() {
  if (!sound) return;
  const [from_s, to_s] = part();
  for (const id of ["trim-from", "trim-to"]) document.querySelector(`output[for=${id}]`).textContent = t("driver.seconds", { seconds: Number($(id).value).toFixed(1) });
  $("trim-save").hidden = from_s === 0 && to_s >= Number($("trim-to").max);
  const canvas = $("wave"), context = canvas.getContext("2d"), samples = sound.getChannelData(0);
  const style = getComputedStyle(document.documentElement);
  const step = samples.length / canvas.width, middle = canvas.height / 2;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (let x = 0; x < canvas.width; x += 1) {
    let peak = 0;
    for (let i = Math.floor(x * step); i < (x + 1) * step; i += Math.max(1, Math.floor(step / 40))) peak = Math.max(peak, Math.abs(samples[i]));
    const at_s = ((x + 0.5) / canvas.width) * sound.duration;
    context.fillStyle = style.getPropertyValue(at_s >= from_s && at_s <= to_s ? "--accent" : "--line");
    context.fillRect(x, middle * (1 - peak), 1, Math.max(2, 2 * middle * peak));
  }
}

let recorder = null;
async function record() {
  say("driver-error");
  if (recorder) { recorder.stop(); return; }
  if (!navigator.mediaDevices) { say("driver-error", { message: t("error.insecure") }); return; }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true }), parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      const ending = recorder.mimeType.includes("mp4") ? "m4a" : "webm";
      take(new File(parts, `recording.${ending}`, { type: recorder.mimeType }));
      recorder = null;
      $("record").textContent = t("driver.record");
      $("record").classList.remove("recording");
    };
    recorder.start();
    $("record").textContent = t("driver.record.stop");
    $("record").classList.add("recording");
  } catch { recorder = null; say("driver-error", { message: t("error.microphone") }); }
}

export function startDriver() {
  takeFiles($("driver"), take);
  $("record").addEventListener("click", record);
  $("example").addEventListener("click", () => take(state.example));
  for (const input of document.querySelectorAll("input[name=kind]")) {
    input.addEventListener("change", () => { change("kind", input.value); showKind(); change("driver", files[input.value]); });
  }
  for (const [id, other, sign] of [["trim-from", "trim-to", 1], ["trim-to", "trim-from", -1]]) {
    $(id).addEventListener("input", () => {
      // A part is at least a fifth of a second long.
      const bound = Number($(id).value) + 0.2 * sign;
      if (sign * (Number($(other).value) - bound) < 0) $(other).value = bound;
      showPart();
    });
  }
  $("trim-save").addEventListener("click", () => {
    const { file } = chosenDriver(), link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showPart);
  on("example", async () => {
    $("example").hidden = !state.example;
    showKind();
    if (!files.audio && state.example) await showVoice(state.example);
  });
  showKind();
}
