// What the parts of the page share. Who changes it tells the others by an event of the same name.
export const state = {
  avatar: null,    // { id, name } of the chosen portrait
  kind: "audio",   // what moves it: audio, driving or motion
  example: null,   // File with the example sentence
};
const events = new EventTarget();
export const on = (name, act) => events.addEventListener(name, act);
export function change(name, value) {
  state[name] = value;
  events.dispatchEvent(new Event(name));
}
export const tell = (name) => events.dispatchEvent(new Event(name));
