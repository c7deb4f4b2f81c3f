// Sound files in the browser: samples out of a file, a part of them, and a WAV file of that part.
import { t } from "./strings.js";

// A file's sound as an AudioBuffer.
export async function decode(file, rate_hz = 48000) {
  const context = new OfflineAudioContext(1, 1, rate_hz);
  try { return await context.decodeAudioData(await file.arrayBuffer()); } catch { throw { message: t("live.unreadable") }; }
}

// 16-bit mono WAV of an AudioBuffer from one second to another. Layout: RIFF header of 44 bytes, then samples.
export function wav(sound, from_s, to_s, name) {
  const rate_hz = sound.sampleRate, first = Math.round(from_s * rate_hz), count = Math.round(to_s * rate_hz) - first;
  const view = new DataView(new ArrayBuffer(44 + 2 * count));
  const text = (place, letters) => [...letters].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * count, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate_hz, true); view.setUint32(28, 2 * rate_hz, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * count, true);
  const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
  for (let i = 0; i < count; i += 1) {
    let value = 0;
    for (const channel of channels) value += channel[first + i] ?? 0;
    view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, value / channels.length)) * 32767, true);
  }
  return new File([view.buffer], name, { type: "audio/wav" });
}
