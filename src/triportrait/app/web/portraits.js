// Who: examples, photos that are dropped or taken by the camera, and the choice among several faces.
import { get, remove, send } from "./api.js";
import { $, make, say, takeFiles, twice } from "./dom.js";
import { change, state } from "./state.js";
import { t } from "./strings.js";

// The choice is found again after a reload.
const REMEMBERED = "portrait";

let shown = "";

// Show all portraits and choose one; the answer is how many there are.
export async function showPortraits(wanted) {
  const { data } = await get("/v1/avatars"), now = data.map((one) => one.id).join();
  if (now === shown && !wanted) return data.length;
  shown = now;
  $("avatars").replaceChildren(...data.map((one) => {
    const input = make("input", { type: "radio", name: "avatar", value: one.id, "aria-label": one.name });
    input.addEventListener("change", () => choose(one));
    return make("label", { title: one.name }, input, make("img", { src: `/v1/avatars/${one.id}/preview.jpg`, alt: "", width: 88, height: 88 }));
  }));
  const of = (id) => data.find((one) => one.id === id);
  const chosen = of(wanted) ?? of(state.avatar?.id) ?? of(localStorage.getItem(REMEMBERED)) ?? data.find((one) => one.name === "portrait") ?? data[0];
  if (chosen) {
    $("avatars").querySelector(`input[value="${chosen.id}"]`).checked = true;
    choose(chosen);
  }
  return data.length;
}

function choose(one) {
  localStorage.setItem(REMEMBERED, one.id);
  // Examples belong to everybody and stay.
  $("delete-avatar").hidden = Boolean(one.example);
  if (one.id !== state.avatar?.id) change("avatar", one);
}

async function addPhoto(photo, face) {
  say("photo-error");
  if (!$("consent").checked) {
    say("photo-error", { message: t("who.consent.first") });
    $("consent").focus();
    return;
  }
  $("photo").disabled = true;
  $("who-state").textContent = t("who.looking");
  try {
    const made = await send("/v1/avatars", { photo, name: photo.name ?? "photo.jpg", consent: "true", ...(face ? { face } : {}) });
    await showPortraits(made.id);
  } catch (error) {
    if (error.code === "E_CHOOSE_FACE" && error.faces) await askForFace(photo, error.faces);
    else say("photo-error", error);
  }
  $("photo").disabled = false;
  $("who-state").textContent = "";
}

async function askForFace(photo, faces) {
  let image = null;
  try { image = await createImageBitmap(photo); } catch { /* a format that only the server reads: numbers remain */ }
  $("faces").replaceChildren(...faces.map(({ number, box }) => {
    const name = t("who.faces.one", { number });
    const button = make("button", { type: "button", "aria-label": name, title: name });
    if (image) {
      const canvas = make("canvas", { width: 160, height: 160 });
      canvas.getContext("2d").drawImage(image, ...box, 0, 0, 160, 160);
      button.append(canvas);
    } else button.append(String(number));
    button.addEventListener("click", () => { $("faces-dialog").close(); addPhoto(photo, String(number)); });
    return button;
  }));
  image?.close();
  $("faces-dialog").showModal();
  $("faces").querySelector("button").focus();
}

async function openCamera() {
  say("photo-error");
  if (!navigator.mediaDevices) { say("photo-error", { message: t("error.insecure") }); return; }
  let stream;
  try { stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, height: { ideal: 1280 } } }); } catch { say("photo-error", { message: t("error.camera") }); return; }
  $("camera-view").srcObject = stream;
  $("camera-dialog").showModal();
}

function takePhoto() {
  const view = $("camera-view"), canvas = make("canvas", { width: view.videoWidth, height: view.videoHeight });
  if (!canvas.width) return;
  canvas.getContext("2d").drawImage(view, 0, 0);
  canvas.toBlob((photo) => { $("camera-dialog").close(); addPhoto(new File([photo], "camera.jpg")); }, "image/jpeg", 0.95);
}

export function startPortraits() {
  takeFiles($("photo"), addPhoto);
  $("camera").addEventListener("click", openCamera);
  $("camera-take").addEventListener("click", takePhoto);
  $("camera-dialog").addEventListener("close", () => {
    $("camera-view").srcObject?.getTracks().forEach((track) => track.stop());
    $("camera-view").srcObject = null;
  });
  twice($("delete-avatar"), t("who.delete.sure"), async () => {
    say("photo-error");
    try {
      await remove(`/v1/avatars/${state.avatar.id}`);
      await showPortraits();
      $("who-state").textContent = t("who.deleted");
    } catch (error) { say("photo-error", error); }
  });
}
