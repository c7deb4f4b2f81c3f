// Small things that every part of the page uses.
import { t } from "./strings.js";

export const $ = (id) => document.getElementById(id);

// An element with properties and children; "aria-..." and "data-..." become attributes.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// Show an error under the field at fault, or take it away.
export function say(id, error) {
  const said = [error?.message, error?.remedy].filter(Boolean).join(" ");
  $(id).textContent = said;
  const field = document.querySelector(`input[aria-describedby="${id}"]`);
  if (field) field.toggleAttribute("aria-invalid", Boolean(said));
}

export const seconds = (count) => (count < 90 ? t("time.seconds", { count: Math.max(Math.round(count), 1) }) : t("time.minutes", { count: Math.round(count / 60) }));

// A file field takes files that are chosen, and those that are dropped on its label.
export function takeFiles(input, take) {
  const label = input.closest("label");
  const chosen = (files) => { const [file] = files; if (file && !input.disabled) take(file); };
  input.addEventListener("change", () => { const files = [...input.files]; input.value = ""; chosen(files); });
  label.addEventListener("dragover", (event) => { event.preventDefault(); label.classList.add("over"); });
  label.addEventListener("dragleave", () => label.classList.remove("over"));
  label.addEventListener("drop", (event) => { event.preventDefault(); label.classList.remove("over"); chosen(event.dataTransfer.files); });
}

// What cannot be undone asks once more, on the same button.
export function twice(button, question, act) {
  const usual = button.textContent;
  let until = 0;
  button.addEventListener("click", () => {
    if (performance.now() < until) { until = 0; button.textContent = usual; act(); return; }
    until = performance.now() + 4000;
    button.textContent = question;
    setTimeout(() => { if (performance.now() >= until) button.textContent = usual; }, 4100);
  });
}

// A slider with its name and its value beside it. It returns the input.
export function slider(parent, { id, name, low, high, step, value, unit = "", flag = "" }, changed) {
  const input = make("input", { type: "range", id, min: low, max: high, step, value });
  const output = make("output", {});
  output.htmlFor = id;
  const show = () => { output.textContent = `${Number(input.value)}${unit}`; };
  input.defaultValue = String(value);
  input.addEventListener("input", () => { show(); changed?.(input); });
  input.addEventListener("reset-value", () => { input.value = input.defaultValue; show(); });
  if (flag) input.title = t("app.flag", { flag });
  show();
  parent.append(make("label", {}, make("span", { textContent: name }), input, output));
  return input;
}

// A choice with its name; choices are pairs of value and words.
export function choice(parent, { id, name, choices, value, flag = "" }, changed) {
  const select = make("select", { id }, ...choices.map(([one, words]) => make("option", { value: one, textContent: words })));
  select.value = value;
  select.dataset.usual = value;
  if (flag) select.title = t("app.flag", { flag });
  select.addEventListener("change", () => changed?.(select));
  select.addEventListener("reset-value", () => { select.value = value; });
  parent.append(make("label", {}, make("span", { textContent: name }), select));
  return select;
}

// Set a slider or a choice back.
export const resetField = (field) => field.dispatchEvent(new Event("reset-value"));

// Dialogs close by their button and by a click beside them; Escape is the browser's own.
export function prepareDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  }
}
