// Check a video: was it generated, and is its signed statement sound?
import { send } from "./api.js";
import { $, make, say, takeFiles } from "./dom.js";
import { lastVideo } from "./result.js";
import { t } from "./strings.js";

async function check(file) {
  say("check-error");
  $("verdict").replaceChildren(t("check.looking"));
  try {
    // The command's lines stand in columns.
    const tidied = (reason) => reason.trim().replace(/^(\w)(\w*:) +/, (_, first, rest) => `${first.toUpperCase()}${rest} `);
    const { generated, text } = await send("/v1/detect", { file });
    const answer = t(generated ? "check.yes" : "check.no"), [, ...reasons] = text.split("\n");
    $("verdict").replaceChildren(make("p", { className: "answer", textContent: answer }), ...reasons.map((reason) => make("p", { textContent: tidied(reason) })));
  } catch (error) {
    $("verdict").replaceChildren();
    say("check-error", error);
  }
}

export function startCheck() {
  takeFiles($("suspect"), check);
  $("check-last").addEventListener("click", async () => {
    say("check-error");
    try {
      const video = await lastVideo();
      if (video) await check(video);
      else say("check-error", { message: t("check.none") });
    } catch (error) { say("check-error", error); }
  });
}
