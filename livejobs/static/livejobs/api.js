// The API, as this site's pages ask it: with the session's cookie, and CSRF's token where something is changed.

import { config } from "./config.js";

// The cookie has the newest token, also after a log-in in another tab. Scripts cannot read it if it is HttpOnly.
function csrfToken() {
  const cookie = document.cookie.split("; ").find((one) => one.startsWith(`${config.csrfCookie}=`));
  return cookie?.slice(config.csrfCookie.length + 1) ?? config.csrf;
}

// Sends JSON, or a form. Returns { ok, status, said }: whether it went well, and the JSON that was answered. Throws if the
// site cannot be reached, or does not answer before the `signal`.
export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = { Accept: "application/json", "X-CSRFToken": csrfToken() };
  const isForm = body instanceof FormData;
  if (!isForm) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, signal, body: body && !isForm ? JSON.stringify(body) : body });
  const said = await answer.json().catch(() => ({}));
  return { ok: answer.ok, status: answer.status, said };
}
