// The result: a video is made, watched while it is made, cancelled, shown; and the same call for other places.
import { api, get, remove, send } from "./api.js";
import { chosenDriver } from "./driver.js";
import { $, say, seconds } from "./dom.js";
import { videoOptions } from "./options.js";
import { command, python } from "./same.js";
import { photoName } from "./still.js";
import { on, state, tell } from "./state.js";
import { t } from "./strings.js";

const PREVIEW_S = 2;
const REACH_AGAIN_MS = 1000;
const DRIVER_FIELDS = ["audio", "driving", "motion"];
let watched = null;  // id of the video whose progress is shown

async function makeVideo(isPreview) {
  for (const id of ["video-error", "driver-error"]) say(id);
  if (!state.avatar) { say("video-error", { message: t("who.none") }); return; }
  const chosen = chosenDriver(isPreview ? PREVIEW_S : undefined);
  if (!chosen) { say("driver-error", { message: t(`driver.none.${state.kind}`) }); return; }
  const options = { ...videoOptions(), ...(isPreview ? { quality: "draft" } : {}) };
  busy(true);
  $("state").textContent = t("result.sending");
  try {
    const made = await send("/v1/videos", { avatar: state.avatar.id, [chosen.kind]: chosen.file, options: JSON.stringify(options) });
    watch(made.id);
  } catch (error) {
    $("state").textContent = "";
    say(DRIVER_FIELDS.includes(error.field) ? "driver-error" : "video-error", error);
  }
  busy(false);
  tell("queue");
}

const busy = (on) => { $("go").disabled = on; $("preview").disabled = on || state.kind !== "audio"; };

// Follow a video until it ends. The server may go and come back in between, and so may the page.
export async function watch(id) {
  watched = id;
  $("progress").hidden = $("cancel").hidden = false;
  $("progress").removeAttribute("value");
  const pace = new Pace();
  for (;;) {
    const ended = await follow(id, pace);
    if (watched !== id) return;
    if (ended) { end(ended); return; }
    $("state").textContent = t("result.lost");
    await new Promise((done) => { setTimeout(done, REACH_AGAIN_MS); });
    try { await get(`/v1/videos/${id}`); } catch (error) {
      if (error.code === "E_NOT_FOUND") { end({ status: "failed", error }); return; }
    }
  }
}

// One connection: the answer is the ended video, or null where the connection broke.
function follow(id, pace) {
  return new Promise((done) => {
    const events = new EventSource(`/v1/videos/${id}/events`);
    const stop = (video) => { events.close(); done(video); };
    const told = (event) => {
      const video = JSON.parse(event.data);
      if (watched !== id) { stop(null); return; }
      tell("queue");
      if (["completed", "failed"].includes(video.status)) { stop(video); return; }
      showProgress(video, pace);
    };
    for (const kind of ["progress", "completed", "failed"]) events.addEventListener(kind, told);
    events.onerror = () => stop(null);
  });
}

// How fast a video gets on; it tells the time left once it has seen enough.
class Pace {
  left_s(progress) {
    const now_s = performance.now() / 1000;
    if (!progress || this.from === undefined || progress < this.progress) [this.from, this.start_s] = [progress, now_s];
    this.progress = progress;
    const spent_s = now_s - this.start_s;
    return progress > this.from && spent_s > 1.5 ? ((100 - progress) * spent_s) / (progress - this.from) : null;
  }
}

function showProgress({ status, progress, position, seconds_left: told_s }, pace) {
  if (status === "queued") {
    $("state").textContent = position ? t("result.waiting", { position }) : t("result.next");
    return;
  }
  $("progress").value = progress;
  const left_s = told_s ?? pace.left_s(progress);
  // Screen readers hear of every tenth only.
  $("state").setAttribute("aria-live", progress % 10 ? "off" : "polite");
  $("state").textContent = left_s === null ? t("result.making", { progress }) : t("result.making.left", { progress, left: seconds(left_s) });
}

function end(video) {
  watched = null;
  $("progress").hidden = $("cancel").hidden = true;
  $("state").setAttribute("aria-live", "polite");
  const isCancelled = video.error?.code === "E_CANCELLED";
  $("state").textContent = video.status === "completed" ? t("result.ready") : isCancelled ? t("result.cancelled") : "";
  if (video.status === "completed") showVideo(video);
  else if (!isCancelled) say(DRIVER_FIELDS.includes(video.error?.field) ? "driver-error" : "video-error", video.error);
  tell("queue");
}

// Show a finished video; null shows the portrait's still again. Some formats no browser plays; they are downloaded.
export function showVideo(made) {
  const video = $("video"), ending = made?.format ?? "mp4", isPlayed = made && ["mp4", "webm"].includes(ending);
  $("still").hidden = Boolean(isPlayed);
  video.hidden = !isPlayed;
  $("download").hidden = $("download-motion").hidden = $("again").hidden = !made;
  if (!isPlayed) { video.pause(); video.removeAttribute("src"); }
  if (!made) return;
  $("download").href = contentOf(made);
  $("download").download = `portrait.${ending}`;
  $("download-motion").href = contentOf(made, "motion");
  if (!isPlayed) { $("state").textContent = t("result.no_player"); return; }
  video.src = contentOf(made);
  // Whoever wants less motion starts it himself; elsewhere a browser may want a click first.
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) video.play().catch(() => { /* the controls are there */ });
}

export const contentOf = ({ id }, variant) => `/v1/videos/${id}/content${variant ? `?variant=${variant}` : ""}`;

export async function copy(text, words) {
  $("copied-text").hidden = true;
  try { await navigator.clipboard.writeText(text); $("copied").textContent = t(words); } catch {
    $("copied").textContent = "";
    $("copied-text").hidden = false;
  }
  $("copied-text").textContent = text;
}

function copyAs(write) {
  const chosen = chosenDriver();
  copy(write(photoName(), state.kind, chosen?.file.name ?? "voice.wav", videoOptions()), chosen?.isPart ? "result.copied.part" : "result.copied");
}

export function startResult() {
  $("go").addEventListener("click", () => makeVideo(false));
  $("preview").addEventListener("click", () => makeVideo(true));
  $("cancel").addEventListener("click", async () => {
    try { await remove(`/v1/videos/${watched}`); } catch (error) { say("video-error", error); }
  });
  $("copy-command").addEventListener("click", () => copyAs(command));
  $("copy-python").addEventListener("click", () => copyAs(python));
  on("kind", () => { busy(false); $("preview").title = state.kind === "audio" ? "" : t("result.preview.voice"); });
}

// The last finished video as a file, for the check.
export async function lastVideo() {
  const { data } = await get("/v1/videos?limit=20"), found = data.find((video) => video.status === "completed");
  return found ? new File([await (await api(contentOf(found))).blob()], `video.${found.format ?? "mp4"}`) : null;
}
