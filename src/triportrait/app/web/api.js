// Requests to the server. What goes wrong is thrown as { code, message, remedy, field, faces }.
import { t } from "./strings.js";

export async function api(path, options = {}) {
  let response;
  try { response = await fetch(path, options); } catch { throw { code: "E_SERVER", message: t("error.server") }; }
  if (response.ok) return response;
  let body = {};
  try { body = await response.json(); } catch { /* an answer without words */ }
  throw { message: t("error.unknown"), ...body.error, faces: body.faces ?? body.error?.faces };
}

export const get = async (path) => (await api(path)).json();
export const post = async (path, body) => (await api(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
export const remove = (path) => api(path, { method: "DELETE" });

export async function send(path, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) form.append(name, value, value.name ?? name);
    else form.append(name, value);
  }
  return (await api(path, { method: "POST", body: form })).json();
}
