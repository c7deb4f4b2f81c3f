// The drawer with all videos of this browser: how far they are; show, download, cancel, delete.
import { get, remove } from "./api.js";
import { $, make, say, twice } from "./dom.js";
import { contentOf, showVideo } from "./result.js";
import { on } from "./state.js";
import { openTab } from "./tabs.js";
import { t } from "./strings.js";

const UNDER_WAY = ["queued", "in_progress"], ASK_MS = 1000;
let shown = "";

// The videos, newest first. Rows are made anew only when something changed, so that no button moves under a finger.
export async function showQueue() {
  const { data } = await get("/v1/videos?limit=100");
  const under_way = data.filter((video) => UNDER_WAY.includes(video.status)).length;
  $("queue-open").textContent = under_way ? t("queue.open.count", { count: under_way }) : t("queue.open");
  const now = JSON.stringify(data.map(({ id, status, error }) => [id, status, error?.code]));
  if (now !== shown) {
    shown = now;
    $("queue").replaceChildren(...data.map(row));
    $("queue-empty").hidden = data.length > 0;
  }
  for (const { id, status, progress } of data) {
    if (status !== "in_progress") continue;
    const line = $(`row-${id}`);
    line.querySelector(".status").textContent = t("queue.in_progress", { progress });
    line.querySelector("progress").value = progress;
  }
  return data;
}

function row(video) {
  const time = new Date(video.created_at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const isCancelled = video.error?.code === "E_CANCELLED", isUnderWay = UNDER_WAY.includes(video.status);
  const status = isCancelled ? t("queue.cancelled") : video.status === "in_progress" ? t("queue.in_progress", { progress: video.progress }) : t(`queue.${video.status}`);
  const picture = make("img", { src: video.status === "completed" ? contentOf(video, "thumbnail") : `/v1/avatars/${video.avatar}/preview.jpg`, alt: "", width: 56, height: 56, loading: "lazy" });
  // The portrait may be deleted already.
  picture.addEventListener("error", () => { picture.style.visibility = "hidden"; });
  const words = make("div", { className: "grow" }, make("strong", { textContent: t("queue.row", { time }) }), make("span", { className: "status", textContent: status }));
  if (video.status === "in_progress") words.append(make("progress", { max: 100, value: video.progress, "aria-label": t("result.progress") }));
  if (video.status === "failed" && !isCancelled) words.append(make("span", { className: "error", textContent: [video.error?.message, video.error?.remedy].filter(Boolean).join(" ") }));
  const buttons = make("div", { className: "row" });
  const button = (name) => {
    const action = t(`queue.${name}`), one = make("button", { type: "button", textContent: action, "aria-label": t("queue.action", { action, time }) });
    buttons.append(one);
    return one;
  };
  if (video.status === "completed") {
    button("show").addEventListener("click", () => { $("queue-drawer").close(); openTab("make"); showVideo(video); });
    const link = (name, href, download) => {
      const action = t(`queue.${name}`);
      buttons.append(make("a", { className: "button", href, download, textContent: action, "aria-label": t("queue.action", { action, time }) }));
    };
    link("download", contentOf(video), `portrait.${video.format ?? "mp4"}`);
    link("motion", contentOf(video, "motion"), "motion.npz");
  }
  const away = async () => {
    say("queue-error");
    try { await remove(`/v1/videos/${video.id}`); } catch (error) { say("queue-error", error); }
    showQueue();
  };
  if (isUnderWay) button("cancel").addEventListener("click", away);
  else twice(button("delete"), t("queue.delete.sure"), away);
  return make("li", { id: `row-${video.id}` }, picture, words, buttons);
}

export function startQueue() {
  const ask = () => showQueue().catch((error) => say("queue-error", error));
  let timer = 0;
  $("queue-open").addEventListener("click", () => {
    say("queue-error");
    ask();
    $("queue-drawer").showModal();
    timer = setInterval(ask, ASK_MS);
  });
  $("queue-drawer").addEventListener("close", () => clearInterval(timer));
  // Events of a running video come several times a second; the last one counts, too.
  let isDue = false;
  on("queue", () => {
    if (isDue) return;
    isDue = true;
    setTimeout(() => { isDue = false; ask(); }, 300);
  });
}
