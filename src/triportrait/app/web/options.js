// How the portrait moves in a video, and what the video shows: the fields, and what they say.
import { $, choice, make, resetField, slider } from "./dom.js";
import { flagOf } from "./same.js";
import { tell } from "./state.js";
import { t } from "./strings.js";

const EMOTIONS = ["neutral", "happy", "sad", "angry", "surprised"];
const COLOURS = ["white", "grey", "green", "blue", "black"];
const CLEAR = "transparent", CLEAR_FORMATS = ["webm", "mov", "zip"];
export const emotionChoices = (...more) => [...EMOTIONS, ...more].map((name) => [name, t(`emotion.${name}`)]);

// Sliders: name of the API, lowest, highest, step, usual value. The flag is the name with dashes.
const AMOUNTS = [
  ["emotion_strength", 0, 1, 0.1, 0.7], ["head_motion", 0, 2, 0.1, 1], ["mouth_gain", 0, 2, 0.1, 1],
  ["expressiveness", 0, 2, 0.1, 1], ["eye_contact", 0, 1, 0.1, 0.9],
];
const USUAL = { quality: "standard", emotion: "neutral", background: null, full_frame: false, mouth: "auto", seed: 0, format: "mp4", ...Object.fromEntries(AMOUNTS.map(([name, , , , value]) => [name, value])) };

// Only what differs from the usual is sent, shown in commands, and so on.
export function videoOptions() {
  const all = {
    quality: $("quality").value, emotion: $("emotion").value, mouth: $("mouth").value, seed: Math.max(0, Math.round(Number($("seed").value)) || 0),
    background: background(), full_frame: $("frame").value === "full", format: background() === CLEAR ? $("format").value : "mp4",
    ...Object.fromEntries(AMOUNTS.map(([name]) => [name, Number($(name).value)])),
  };
  if (all.emotion === "neutral") all.emotion_strength = USUAL.emotion_strength;
  return Object.fromEntries(Object.entries(all).filter(([name, value]) => value !== USUAL[name]));
}

// The whole photo keeps its own background.
export function background() {
  if ($("frame").value === "full") return null;
  const chosen = $("background").value;
  return chosen === "own" ? $("colour").value : chosen || null;
}

export function startOptions() {
  const fields = $("option-fields"), changed = () => tell("options");
  const look = () => {
    $("background").disabled = $("frame").value === "full";
    $("colour").closest("label").hidden = $("background").value !== "own" || $("background").disabled;
    $("format").closest("label").hidden = background() !== CLEAR;
    tell("look");
  };
  choice(fields, { id: "quality", name: t("options.quality"), value: "standard", flag: "--quality", choices: ["draft", "standard", "high"].map((name) => [name, t(`options.quality.${name}`)]) }, changed);
  choice(fields, { id: "emotion", name: t("options.emotion"), value: "neutral", flag: "--emotion", choices: emotionChoices("auto") }, () => { changed(); look(); });
  for (const [id, low, high, step, value] of AMOUNTS) slider(fields, { id, name: t(`options.${id}`), low, high, step, value, flag: flagOf(id) }, changed);
  const colours = [["", t("options.background.photo")], ...COLOURS.map((name) => [name, t(`options.background.${name}`)]), ["own", t("options.background.own")], [CLEAR, t("options.background.transparent")]];
  choice(fields, { id: "background", name: t("options.background"), value: "", flag: "--background", choices: colours }, () => { changed(); look(); });
  const colour = make("input", { type: "color", id: "colour", value: "#204060" });
  colour.addEventListener("input", () => { changed(); look(); });
  fields.append(make("label", { hidden: true }, make("span", { textContent: t("options.colour") }), colour));
  choice(fields, { id: "format", name: t("options.format"), value: "webm", choices: CLEAR_FORMATS.map((name) => [name, t(`options.format.${name}`)]) }, changed);
  $("format").closest("label").hidden = true;
  choice(fields, { id: "frame", name: t("options.frame"), value: "square", flag: "--full-frame", choices: [["square", t("options.frame.square")], ["full", t("options.frame.full")]] }, () => { changed(); look(); });
  choice(fields, { id: "mouth", name: t("options.mouth"), value: "auto", flag: "--mouth", choices: ["auto", "free", "still"].map((name) => [name, t(`options.mouth.${name}`)]) }, changed);
  const seed = make("input", { type: "number", id: "seed", min: 0, max: 2 ** 31 - 1, step: 1, value: 0, title: t("app.flag", { flag: "--seed" }) });
  seed.addEventListener("change", changed);
  seed.addEventListener("reset-value", () => { seed.value = 0; });
  fields.append(make("label", {}, make("span", { textContent: t("options.seed") }), seed));
  $("options-reset").addEventListener("click", () => {
    for (const field of fields.querySelectorAll("input, select")) resetField(field);
    changed();
    look();
  });
}
