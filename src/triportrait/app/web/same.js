// The same video elsewhere: as a command and as Python. These functions know nothing of the page.

// A word for a POSIX shell.
const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
// A file whose name begins with a dash is no flag.
const shellFile = (name) => shellWord(name.startsWith("-") ? `./${name}` : name);
export const flagOf = (name) => `--${name.replaceAll("_", "-")}`;

// `options` are those that differ from the usual; the names are those of the API, which are the command line's.
export function command(photo, kind, driver, { format = "mp4", ...options }) {
  // The server keeps portraits at 512 px, also for drafts.
  const shown = options.quality === "draft" ? { ...options, size: 512 } : options;
  const words = Object.entries(shown).map(([name, value]) => (value === true ? flagOf(name) : `${flagOf(name)} ${shellWord(String(value))}`));
  return ["triportrait animate", shellFile(photo), `--${kind} ${shellFile(driver)}`, ...words, `-o out.${format}`].join(" ");
}

// Options of the portrait, of the motion and of the file.
const PLACE = { quality: "portrait", full_frame: "file", background: "file" };
const BACKGROUND = "from triportrait.background import Background";
const literal = (value) => (value === true ? "True" : JSON.stringify(value));
const VERB = { audio: "talk", driving: "drive", motion: "perform" };

export function python(photo, kind, driver, { format = "mp4", ...options }) {
  const at = (place) => Object.entries(options).filter(([name]) => (PLACE[name] ?? "motion") === place)
    .map(([name, value]) => `${name}=${name === "background" ? `Background(${literal(value)})` : literal(value)}`);
  const motion = at("motion"), isDraft = options.quality === "draft";
  return [
    `from triportrait import ${motion.length ? "DriveOptions, " : ""}Portrait`, ...(options.background ? [BACKGROUND] : []),
    ...(isDraft ? ["from triportrait.face.portrait import PortraitOptions"] : []), "",
    `portrait = Portrait.from_image(${[literal(photo), ...(isDraft ? ["PortraitOptions(512)"] : []), ...at("portrait")].join(", ")})`,
    `performance = portrait.${VERB[kind]}(${[literal(driver), ...(motion.length ? [`DriveOptions(${motion.join(", ")})`] : [])].join(", ")})`,
    `performance.save(${[`"out.${format}"`, ...at("file")].join(", ")})`,
  ].join("\n");
}

// A picture in a pose; angles of the page are degrees.
export function stillPython(photo, { curves, pitch, yaw, roll, gaze, emotion, background }) {
  const radians = (degrees) => `[${degrees.map((value) => `radians(${value})`).join(", ")}]`, more = [];
  if (pitch || yaw || roll) more.push(`rotation_rad=${radians([pitch, yaw, roll])}`);
  if (gaze[0] || gaze[1]) more.push(`gaze_rad=${radians(gaze)}`);
  if (emotion !== "neutral") more.push(`emotion=${literal(emotion)}`);
  if (background) more.push(`background=Background(${literal(background)})`);
  const curved = `{${Object.entries(curves).map(([name, value]) => `"${name}": ${value}`).join(", ")}}`;
  return [
    ...(more.some((one) => one.includes("radians")) ? ["from math import radians", ""] : []),
    "from triportrait import Portrait", ...(background ? [BACKGROUND] : []), "",
    `portrait = Portrait.from_image(${literal(photo)})`,
    `frame = portrait.still(${[curved, ...more].join(", ")})`,
    "frame.image  # uint8 RGB [512, 512, 3]",
  ].join("\n");
}
