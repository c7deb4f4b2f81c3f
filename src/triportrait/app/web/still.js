// Try it: sliders pose the portrait at once, and the picture can be kept.
import { api } from "./api.js";
import { $, make, resetField, say, slider } from "./dom.js";
import { background } from "./options.js";
import { copy, showVideo } from "./result.js";
import { stillPython } from "./same.js";
import { on, state } from "./state.js";
import { t } from "./strings.js";

// Groups of sliders: id, lowest, highest, step, unit.
const GROUPS = {
  head: [["yaw", -30, 30, 1, "°"], ["pitch", -20, 20, 1, "°"], ["roll", -20, 20, 1, "°"]],
  expression: [["mouthSmile", 0, 1, 0.05], ["jawOpen", 0, 1, 0.05], ["mouthPucker", 0, 1, 0.05], ["eyeBlink", 0, 1, 0.05], ["wink", 0, 1, 0.05], ["browOuterUp", 0, 1, 0.05], ["browDown", 0, 1, 0.05]],
  gaze: [["gazeYaw", -25, 25, 1, "°"], ["gazePitch", -20, 20, 1, "°"]],
};
// Sliders that move one curve, and those that move both sides.
const ALONE = ["jawOpen", "mouthPucker"], PAIRED = ["mouthSmile", "eyeBlink", "browOuterUp", "browDown"];
const fields = {};
const value = (id) => Number(fields[id].value);

function pose() {
  const curves = {};
  for (const id of ALONE) if (value(id)) curves[id] = value(id);
  for (const id of PAIRED) if (value(id)) curves[`${id}Left`] = curves[`${id}Right`] = value(id);
  if (value("wink")) curves.eyeBlinkLeft = Math.max(curves.eyeBlinkLeft ?? 0, value("wink"));
  return {
    curves, yaw: value("yaw"), pitch: value("pitch"), roll: value("roll"), gaze: [value("gazePitch"), value("gazeYaw")],
    emotion: $("emotion").value === "auto" ? "neutral" : $("emotion").value, 
    background: background() === "transparent" ? null : background(),
  };
}

// The newest pose wins: while one is drawn, those between are left out.
let asking = false, askAgain = false;
export async function showStill() {
  if (!state.avatar) return;
  showVideo(null);
  askAgain = true;
  if (asking) return;
  asking = true;
  while (askAgain) {
    askAgain = false;
    try {
      const asked = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(pose()) };
      const picture = await (await api(`/v1/avatars/${state.avatar.id}/still`, asked)).blob();
      const old = $("still").src;
      $("still").src = $("still-download").href = URL.createObjectURL(picture);
      await $("still").decode().catch(() => { /* another picture came before */ });
      if (old.startsWith("blob:")) URL.revokeObjectURL(old);
      say("video-error");
    } catch (error) { say("video-error", error); }
  }
  asking = false;
}

export function startStill() {
  for (const [group, sliders] of Object.entries(GROUPS)) {
    const box = make("fieldset", { className: "sliders" }, make("legend", { textContent: t(`try.${group}`) }));
    for (const [id, low, high, step, unit] of sliders) fields[id] = slider(box, { id: `try-${id}`, name: t(`try.${id}`), low, high, step, unit, value: 0 }, showStill);
    $("sliders").append(box);
  }
  $("reset").addEventListener("click", () => { Object.values(fields).forEach(resetField); showStill(); });
  $("still-python").addEventListener("click", () => copy(stillPython(photoName(), pose()), "result.copied"));
  $("again").addEventListener("click", showStill);
  for (const event of ["avatar", "look"]) on(event, showStill);
}

// Examples have names without an ending.
export const photoName = () => (/\.\w+$/.test(state.avatar?.name ?? "") ? state.avatar.name : `${state.avatar?.name ?? "photo"}.jpg`);
