// The page: its parts start, and the first visit finds a portrait and a voice, so that one click makes a video.
import { startCheck } from "./check.js";
import { $, prepareDialogs, say } from "./dom.js";
import { startDriver } from "./driver.js";
import { startHead } from "./head.js";
import { startLive } from "./live.js";
import { startOptions } from "./options.js";
import { showPortraits, startPortraits } from "./portraits.js";
import { showQueue, startQueue } from "./queue.js";
import { startResult, watch } from "./result.js";
import { startStill } from "./still.js";
import { change } from "./state.js";
import { fillDocument, t } from "./strings.js";
import { startTabs } from "./tabs.js";

// A new installation prepares its examples first. The first is waited for; the others may come later.
const TRIES = 240, ASK_MS = 500, LATER_MS = [4000, 10000, 20000];

fillDocument();
prepareDialogs();
for (const start of [startOptions, startPortraits, startDriver, startStill, startResult, startQueue, startLive, startHead, startCheck, startTabs]) start();
$("help-open").addEventListener("click", () => $("help-dialog").showModal());
// A file that is dropped beside its place must not take the page away.
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
document.body.dataset.ready = "";

async function showExample() {
  const response = await fetch("/v1/example.wav");
  if (response.ok) change("example", new File([await response.blob()], "speech.wav", { type: "audio/wav" }));
}

async function findPortraits() {
  for (let tries = 0; tries < TRIES && !(await showPortraits()); tries += 1) {
    $("who-state").textContent = t("who.loading");
    await new Promise((done) => { setTimeout(done, ASK_MS); });
  }
  $("who-state").textContent = "";
  for (const moment of LATER_MS) setTimeout(() => showPortraits().catch(() => { /* the page says so elsewhere */ }), moment);
}

// A video that was under way when the page was left goes on.
async function findVideo() {
  const running = (await showQueue()).find((video) => ["queued", "in_progress"].includes(video.status));
  if (running) watch(running.id);
}

try { await Promise.all([showExample(), findPortraits(), findVideo()]); } catch (error) { say("photo-error", error); }
