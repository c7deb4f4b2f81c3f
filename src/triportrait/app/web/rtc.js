// The live portrait over WebRTC: an offer, its answer, a data channel for messages, and a video element that plays what comes.
import { api } from "./api.js";
import { t } from "./strings.js";

// Candidates of this machine are known after this time, also where a browser waits for a server that nobody named.
const GATHER_MS = 1500;

// Returns { line, film }: line has the verbs of a WebSocket; film.show(draw) calls draw(picture, width, height) for each new picture.
export async function call(address) {
  if (!address) throw { message: t("live.no_rtc") };
  const peer = new RTCPeerConnection({ iceServers: [] }), line = peer.createDataChannel("messages");
  const player = document.createElement("video");
  line.binaryType = "arraybuffer";
  player.autoplay = player.playsInline = true;
  player.srcObject = new MediaStream();
  peer.addTransceiver("audio", { direction: "recvonly" });
  peer.addTransceiver("video", { direction: "recvonly" });
  peer.ontrack = ({ track }) => player.srcObject.addTrack(track);
  peer.onconnectionstatechange = () => { if (["failed", "closed"].includes(peer.connectionState)) line.onclose?.(); };
  try {
    await peer.setLocalDescription();
    if (peer.iceGatheringState !== "complete") {
      await Promise.race([
        new Promise((done) => { peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done(); }),
        new Promise((done) => { setTimeout(done, GATHER_MS); }),
      ]);
    }
    const headers = { "Content-Type": "application/sdp" }, offer = peer.localDescription.sdp;
    const answer = await api(address, { method: "POST", headers, body: offer });
    await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  } catch (error) {
    peer.close();
    throw error;
  }
  let isOver = false;
  const show = (draw) => player.requestVideoFrameCallback(() => {
    if (isOver) return;
    draw(player, player.videoWidth, player.videoHeight);
    show(draw);
  });
  return { line, film: { show, close: () => { isOver = true; player.srcObject = null; peer.close(); } } };
}
