// Tabs as the authoring practices of ARIA want them: arrow keys, Home and End; one tab stop. The address remembers the tab.
import { $ } from "./dom.js";
import { tell } from "./state.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

export function openTab(name) {
  for (const one of tabs) {
    const isChosen = one.id === `tab-${name}`;
    one.setAttribute("aria-selected", isChosen);
    one.tabIndex = isChosen ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !isChosen;
  }
  $("who").hidden = name === "check";
  history.replaceState(null, "", name === "make" ? location.pathname : `#${name}`);
  tell(`tab-${name}`);
}

const nameOf = (tab) => tab.getAttribute("aria-controls");

export function startTabs() {
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => openTab(nameOf(tab)));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs[(to + tabs.length) % tabs.length];
      next.focus();
      openTab(nameOf(next));
    });
  });
  const asked = location.hash.slice(1);
  if (tabs.some((tab) => nameOf(tab) === asked)) openTab(asked);
}
