// All words of the page. They stand in strings.en.json and nowhere else; a test holds both against each other.
const words = await (await fetch("strings.en.json")).json();

// A text by its name, with values in the places of {names}.
export function t(name, values = {}) {
  return words[name].replace(/\{(\w+)\}/g, (place, key) => values[key] ?? place);
}

// Fill the document's elements: data-text, data-label (for screen readers) and data-alt.
export function fillDocument() {
  for (const one of document.querySelectorAll("[data-text]")) one.textContent = t(one.dataset.text);
  for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", t(one.dataset.label));
  for (const one of document.querySelectorAll("[data-alt]")) one.alt = t(one.dataset.alt);
}
