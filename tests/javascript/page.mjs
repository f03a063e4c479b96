// A page without a browser: a clock that a test moves, sockets whose other side is the test, and what a page is told.
import { webcrypto } from "node:crypto";

class FakeSocket {
  static OPEN = 1;
  readyState = 0;
  sent = [];

  constructor(url) {
    this.url = url;
    page.sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  // What the server does:
  opens() {
    this.readyState = 1;
    this.onopen();
  }

  tells(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }

  closes(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }
}

export const page = {};

// Starts anew; the modules of the page stay loaded.
export function newPage() {
  const timers = new Map();
  const listeners = {};
  let now = Date.parse("2026-01-01T00:00:00Z");
  let number = 0;
  Object.assign(page, { sockets: [], link: "", loads: 0, asked: [], answers: {} });
  const listen = (name, then) => {
    listeners[name] = [...(listeners[name] ?? []), then];
  };
  const stored = new Map();
  const globals = {
    WebSocket: FakeSocket,
    setTimeout(then, wait = 0, ...values) {
      timers.set(++number, { at: now + wait, act: () => then(...values) });
      return number;
    },
    clearTimeout: (id) => timers.delete(id),
    window: { addEventListener: listen },
    document: { addEventListener: listen, getElementById: () => null, cookie: "", hidden: false },
    navigator: { onLine: true, cookieEnabled: true },
    location: { protocol: "https:", host: "site.test", pathname: "/", search: "", replace: () => (page.loads += 1) },
    sessionStorage: {
      getItem: (key) => stored.get(key) ?? null,
      setItem: (key, value) => stored.set(key, value),
      removeItem: (key) => stored.delete(key),
    },
    crypto: webcrypto,
    fetch: async (path, { method }) => {
      page.asked.push(`${method} ${path}`);
      const said = page.answers[path];
      return { ok: said !== undefined, status: said === undefined ? 404 : 200, json: async () => said ?? {} };
    },
    link: {
      toggleClass() {
        return this;
      },
      text: (text) => (page.link = text),
    },
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  Date.now = () => now;
  Math.random = () => 1; // the longest wait
  page.fire = (name) => {
    for (const then of listeners[name] ?? []) then();
  };
  // Lets seconds pass, and what is due in them happen.
  page.pass = async (seconds) => {
    const end = now + 1000 * seconds;
    for (;;) {
      await settle();
      const due = [...timers].filter(([, { at }]) => at <= end).sort(([, one], [, other]) => one.at - other.at)[0];
      if (!due) break;
      timers.delete(due[0]);
      now = Math.max(now, due[1].at);
      due[1].act();
    }
    now = end;
  };
}

// Lets the promises settle that wait for no timer.
export function settle() {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}
