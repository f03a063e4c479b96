// The API, as this site's pages ask it: with the session's cookie, and CSRF's token where something is changed.

function csrfToken() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]*)/)?.[1] ?? "";
}

// Returns { ok, status, said }: whether it went well, and the JSON that was answered. Throws where the site cannot be
// reached, or does not answer within `patience` milliseconds, if that is given.
export async function ask(path, { method = "GET", body, patience } = {}) {
  const headers = { "Content-Type": "application/json", "X-CSRFToken": csrfToken() };
  const signal = patience && AbortSignal.timeout(patience);
  const answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  return { ok: answer.ok, status: answer.status, said };
}
