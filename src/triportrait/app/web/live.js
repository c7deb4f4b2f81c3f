// The live portrait: sound goes out as PCM, pictures and sound come back and are played by the sound's clock.
const $ = (id) => document.getElementById(id);
const RATE = 24000;

export function startLive({ api, say, avatar }) {
  let socket = null, context = null, offset = null, pictures = [], shown = 0, asked = null, microphone = null;
  const controls = ["interrupt", "stop", "speech", "microphone", "live-emotion"];
  const enable = (on) => { controls.forEach((id) => { $(id).disabled = !on; }); $("start").disabled = on; };
  const tell = (message) => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message)); };

  $("start").addEventListener("click", async () => {
    say("live-error");
    if (!avatar()) { say("live-error", { message: "Choose a portrait first." }); return; }
    $("start").disabled = true;
    $("live-state").textContent = "Getting ready …";
    context = new AudioContext({ sampleRate: RATE });
    try {
      const session = await (await api("/v1/sessions", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ avatar: avatar(), sample_rate: RATE }) })).json();
      socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${session.socket}`);
    } catch (error) { say("live-error", error); enable(false); $("live-state").textContent = ""; return; }
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => (typeof data === "string" ? hear(JSON.parse(data)) : receive(data));
    socket.onclose = end;
    requestAnimationFrame(draw);
  });

  function hear(message) {
    if (message.type === "session.created") { enable(true); $("live-state").textContent = "Listening. Say a recording, or open the microphone."; }
    else if (message.type === "speech.started" && asked !== null) { $("live-state").textContent = `First move after ${((performance.now() - asked) / 1000).toFixed(2)} s`; asked = null; }
    else if (message.type === "speech.finished" && message.interrupted) $("live-state").textContent = "Interrupted.";
    else if (message.type === "error") say("live-error", message);
    else if (message.type === "session.ended") { say("live-error", { message: message.reason }); socket.close(); }
  }

  function receive(buffer) {
    const view = new DataView(buffer), kind = view.getUint8(0), number = view.getUint32(4, true), pts = Number(view.getBigUint64(8, true)) / 1e6;
    if (kind === 3) {
      const pcm = new Int16Array(buffer, 16), block = context.createBuffer(1, pcm.length, RATE), samples = block.getChannelData(0);
      for (let i = 0; i < pcm.length; i += 1) samples[i] = pcm[i] / 32768;
      // The first block, or one that comes too late, sets the clock anew: 60 ms are kept ready.
      if (offset === null || pts + offset < context.currentTime) offset = context.currentTime + 0.06 - pts;
      const source = context.createBufferSource();
      source.buffer = block;
      source.connect(context.destination);
      source.start(pts + offset);
    } else if (kind === 1) {
      createImageBitmap(new Blob([new Uint8Array(buffer, 16)], { type: "image/jpeg" })).then((image) => pictures.push({ pts, image, number }));
    }
  }

  function draw() {
    if (!socket) return;
    const now = context.currentTime - (offset ?? 0);
    let next = null;
    while (pictures.length && pictures[0].pts <= now) { next?.image.close(); next = pictures.shift(); }
    if (next) {
      const face = $("face");
      if (face.width !== next.image.width) { face.width = next.image.width; face.height = next.image.height; }
      face.getContext("2d").drawImage(next.image, 0, 0);
      next.image.close();
      shown = next.number;
      tell({ type: "ack", pictures: shown });
    }
    requestAnimationFrame(draw);
  }

  const send = (samples) => {
    const pcm = new Int16Array(samples.length);
    for (let i = 0; i < samples.length; i += 1) pcm[i] = Math.max(-1, Math.min(1, samples[i])) * 32767;
    if (socket?.readyState === WebSocket.OPEN) socket.send(pcm.buffer);
  };

  $("speech").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    say("live-error");
    try {
      const sound = await context.decodeAudioData(await file.arrayBuffer());
      const samples = sound.getChannelData(0).subarray(0, 25 * RATE);
      asked = performance.now();
      for (let start = 0; start < samples.length; start += 12000) send(samples.subarray(start, start + 12000));
      tell({ type: "input_audio_buffer.commit" });
    } catch { say("live-error", { message: "The file has no sound that the browser reads; use WAV, MP3 or M4A." }); }
  });

  $("microphone").addEventListener("click", async () => {
    if (microphone) { closeMicrophone(); return; }
    if (!navigator.mediaDevices) { say("live-error", { message: "A browser gives the microphone to pages of this machine or over HTTPS only." }); return; }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
      await context.audioWorklet.addModule("microphone.js");
      const source = context.createMediaStreamSource(stream), node = new AudioWorkletNode(context, "microphone");
      node.port.onmessage = ({ data }) => send(data);
      source.connect(node);
      microphone = { stream, source };
      $("microphone").textContent = "Close the microphone";
    } catch { say("live-error", { message: "The microphone could not be opened; allow it in the browser." }); }
  });

  function closeMicrophone() {
    microphone?.source.disconnect();
    microphone?.stream.getTracks().forEach((track) => track.stop());
    microphone = null;
    $("microphone").textContent = "Microphone";
    tell({ type: "input_audio_buffer.commit" });
  }

  $("interrupt").addEventListener("click", () => tell({ type: "interrupt" }));
  $("live-emotion").addEventListener("change", (event) => tell({ type: "session.update", controls: { emotion: event.target.value } }));
  $("stop").addEventListener("click", () => socket?.close());

  function end() {
    closeMicrophone();
    socket = null;
    offset = null;
    pictures.forEach(({ image }) => image.close());
    pictures = [];
    context?.close();
    enable(false);
    if (!$("live-error").textContent) $("live-state").textContent = "Ended.";
  }
}
