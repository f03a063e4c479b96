// The socket to ws/jobs/: snapshots come in, the newest of each job only; what is asked goes out, and none of it is
// lost or doubled.
import $ from "./jquery.js";
import { ask } from "./api.js";
import { config } from "./config.js";
import { forgetReload, reloadOnce } from "./reload.js";
import { Polling, read } from "./polling.js";
import { FINAL } from "./state.js";
import { follow } from "./task_status.js";

const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 5000; // so that the truth is here within 5 s of its being told again
const PING_EVERY = 20000;
const PATIENCE = 10000; // for the answer to a ping: a line that has been cut silently looks open for ever
const PING_SOON = 4000; // while jobs run
const PATIENCE_SOON = 3000;
const BLOCKED = 3; // tries of a page that never had a socket on its network, after which it asks over HTTP instead
const UNAUTHORIZED = 4401; // the site's close codes
const OTHER_OWNER = 4410;
const TOO_MANY_SOCKETS = 4429;
const UNAUTHORIZED_TRIES = 3; // in a row: a log-in in another tab closes this socket before the browser has its cookie
const CATCH_UP = 2000; // after a connection has opened, until the jobs that it told nothing of are asked for
const FRAME_BYTES = 32 * 1024; // the site's limit of a frame

const LINK = {
  live: "live",
  reconnecting: "reconnecting…",
  offline: "offline",
  asking: "WebSockets are blocked here: asking every 2\u00a0s",
  unusable: "This browser's session cannot be used: allow cookies for this site, then reload.",
};
const TOO_LONG = "This is too long: at most 32 KiB can be sent. Shorten it, then press again.";
const CUT_OFF = "This could not be sent: the line broke. Press again.";
const NOT_TAKEN =
  "The site has not taken this. It may be too large, or this page too old: shorten it, or load the page again.";
const SESSION_ENDED =
  "Your session had ended, so this page was loaded again. Your last request may not have been carried out.";

// The page names its owner: without that, the site would take a socket whose cookie is gone for a new visitor's, and this
// page would go on with jobs that are not the owner's of its cookie. A browser that keeps no cookies is a new visitor.
const PATH = `${config.sockets}jobs/${navigator.cookieEnabled ? `?owner=${config.owner}` : ""}`;

export class JobSocket {
  // onJob(snapshot), onGone(task_id) when a job was deleted, onError(frame), onUnsent(ref) when an upload waits for a line
  constructor({ onJob, onGone, onError, onUnsent = () => {} }) {
    Object.assign(this, { onJob, onGone, onError, onUnsent });
    this.newest = new Map(); // task_id -> its newest snapshot
    this.unfinished = new Set(); // the ids of the jobs that have not ended
    this.heardAt = Date.now(); // when a frame came last
    this.unanswered = new Map(); // ref, or task_id of a cancel -> the frame, until the server has answered it
    this.followed = new Set(); // the ids of the jobs whose own sockets are open
    this.wanted = new Set(); // the ids of the jobs that this page shows, whether its socket tells of them or not
    this.wait = FIRST_WAIT;
    this.tries = 0;
    this.isLive = false; // whether the site has accepted the session and answered
    this.refused = 0; // how many times in a row the session was not accepted
    this.polling = null;
    this.open();
    window.addEventListener("online", () => {
      this.tries = 0; // it may be another network
      this.wake();
    });
    window.addEventListener("offline", () => this.closed());
    document.addEventListener("visibilitychange", () => document.hidden || this.wake());
  }

  // If the form is given, then what no frame can carry is posted as the form would be: a file, and a long text.
  start(kind, params, form) {
    return this.ask({ type: "start", kind, params, ref: uuid() }, form);
  }

  retry(task_id) {
    return this.ask({ type: "retry", task_id, ref: uuid() });
  }

  cancel(task_id) {
    this.ask({ type: "cancel", task_id });
  }

  ask(frame, form) {
    const { ref = null, task_id = null } = frame;
    const isLong = new TextEncoder().encode(JSON.stringify(frame)).length > FRAME_BYTES;
    const action = form?.getAttribute("action"); // `form.action` is the input of that name, if there is one
    if (action && (isLong || form.getAttribute("enctype"))) {
      frame = { type: "start", ref, action, body: new FormData(form), abort: new AbortController() };
      frame.body.delete("csrfmiddlewaretoken"); // the cookie's may be newer
      frame.body.set("livejobs_ref", ref);
    } else if (isLong) {
      const error = { type: "error", code: "frame_too_large", detail: TOO_LONG, field: null, ref, task_id };
      queueMicrotask(() => this.onError(error)); // after the caller has noted the ref
      return ref;
    }
    this.unanswered.set(ref ?? task_id, frame);
    if (this.polling) this.polling.send(frame);
    else if (frame.body || this.socket.readyState === WebSocket.OPEN) this.send(frame);
    return ref;
  }

  // Takes back what was asked, unless it has been answered.
  forget(ref) {
    this.unanswered.get(ref)?.abort?.abort();
    this.unanswered.delete(ref);
  }

  send(frame) {
    if (frame.body) this.upload(frame);
    else this.socket.send(JSON.stringify(frame));
  }

  async upload(frame) {
    if (frame.isOnItsWay) return;
    frame.isOnItsWay = true;
    const error = { type: "error", code: "not_taken", detail: NOT_TAKEN, field: null, ref: frame.ref, task_id: null };
    let answer = error;
    try {
      const { said } = await ask(frame.action, { method: "POST", body: frame.body, signal: frame.abort.signal });
      if (said.type) answer = said;
    } catch {
      if (this.isAway) return this.unanswered.has(frame.ref) && this.onUnsent(frame.ref); // sent again with the others
      answer = { ...error, code: "cut_off", detail: CUT_OFF };
    } finally {
      frame.isOnItsWay = false;
    }
    if (!this.unanswered.has(frame.ref)) return; // taken back, or told already
    if (this.polling && answer.type !== "error") this.polling.see(answer);
    else this.take(answer);
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}${PATH}`);
    this.told = new Set(); // the ids of the jobs that this connection told of
    this.socket.onopen = () => {
      this.tries = -Infinity; // it can be opened here
      this.ping(); // the answer says that the session is accepted
      // The server takes the same ref only once, so what may have been lost is simply sent again.
      for (const frame of this.unanswered.values()) this.send(frame);
    };
    this.socket.onmessage = (event) => {
      const frame = JSON.parse(event.data);
      this.heardAt = Date.now();
      if (!this.isLive && frame.type !== "error") this.live();
      this.take(frame);
      this.within(this.unfinished.size ? PING_SOON : PING_EVERY, () => this.ping());
    };
    this.socket.onclose = ({ code }) => this.closed(code);
    this.within(PATIENCE, () => this.closed());
  }

  live() {
    this.isLive = true;
    this.wait = FIRST_WAIT;
    this.refused = 0;
    this.polling?.stop();
    this.polling = null;
    this.onLink("live");
    const { socket } = this;
    setTimeout(() => this.catchUp(socket), CATCH_UP);
    if (forgetReload()) this.onError({ type: "error", code: "session_ended", detail: SESSION_ENDED });
  }

  // Tells of a job that this page shows: of a child, for example, only the socket of its own tells.
  want(task_id) {
    this.wanted.add(task_id);
    const known = this.newest.get(task_id);
    if (known) this.onJob(known);
    else if (this.polling) this.polling.unfinished.add(task_id);
    else if (this.hasCaughtUp) this.watch(task_id);
  }

  // A connection begins with the unfinished jobs and the most recent others. A job that this page shows as running, and
  // that is neither, has ended meanwhile.
  async catchUp(socket) {
    if (socket !== this.socket) return;
    this.hasCaughtUp = true;
    for (const task_id of this.wanted) if (!this.newest.has(task_id)) this.watch(task_id);
    const untold = [...this.newest.values()].filter((job) => !FINAL.has(job.state) && !this.told.has(job.task_id));
    if (!config.api) {
      for (const job of untold) this.watch(job.task_id);
      return;
    }
    const answers = await Promise.allSettled(untold.map((job) => read(job.task_id)));
    for (const { value } of answers) if (value) this.take(value);
    if (answers.some(({ status }) => status === "rejected")) setTimeout(() => this.catchUp(socket), CATCH_UP);
  }

  // The job's own socket tells of it to its end; in a project without the JSON API, of what ended meanwhile too.
  watch(task_id) {
    if (this.followed.has(task_id)) return;
    this.followed.add(task_id);
    const onEnd = (found) => {
      this.followed.delete(task_id);
      if (!found) this.take({ type: "gone", task_id });
    };
    follow(task_id, { onJob: (job) => this.take(job), onEnd, onLink: () => {} });
  }

  closed(code) {
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null; // closing waits for the other side, which may be gone
    socket.close();
    this.isLive = false;
    this.tries += 1;
    if (code === UNAUTHORIZED) this.refused += 1;
    if (code === OTHER_OWNER) this.refused = UNAUTHORIZED_TRIES; // the cookie is good, and this page is not
    const unusable = this.refused >= UNAUTHORIZED_TRIES;
    if (unusable && reloadOnce(code === OTHER_OWNER ? "owner" : "session", this.unanswered.size > 0)) return;
    if (unusable || code === TOO_MANY_SOCKETS) this.wait = LONGEST_WAIT; // that will not pass in a moment
    if (this.tries >= BLOCKED && config.api) this.poll();
    else this.onLink(unusable ? "unusable" : navigator.onLine ? "reconnecting" : "offline");
    this.within(this.wait * (0.5 + Math.random() / 2), () => this.open());
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
  }

  // Until a socket opens after all: it is tried on.
  poll() {
    if (this.polling) return;
    const { unanswered, wanted } = this;
    const take = (frame) => this.take(frame);
    const upload = (frame) => this.upload(frame);
    this.polling = new Polling({ unanswered, wanted, take, upload, onLink: (how) => this.onLink(how) });
  }

  ping() {
    this.socket.send('{"type": "ping"}');
    this.within(this.unfinished.size ? PATIENCE_SOON : PATIENCE, () => this.closed());
  }

  onLink(how) {
    this.isAway = how !== "live" && how !== "asking";
    $("#link")
      .toggleClass("live", how === "live")
      .text(LINK[how]);
  }

  // One thing is waited for at a time: to be open, the next ping, its answer, the next try.
  within(milliseconds, then) {
    clearTimeout(this.timer);
    this.timer = setTimeout(then, milliseconds);
  }

  // The tab is looked at again, or the network is back: what looks open may be dead, and the next try is due.
  wake() {
    if (this.socket.readyState === WebSocket.OPEN) this.ping();
    else if (!this.socket.onclose) this.open();
  }

  take(frame) {
    if (frame.type === "pong") return;
    this.unanswered.delete(frame.ref ?? frame.task_id);
    if (frame.type === "error") return this.onError(frame);
    this.told.add(frame.task_id);
    if (FINAL.has(frame.state) || frame.type === "gone") this.unfinished.delete(frame.task_id);
    else this.unfinished.add(frame.task_id);
    if (frame.type === "gone") {
      this.newest.delete(frame.task_id);
      return this.onGone(frame.task_id);
    }
    if (frame.cancelling || FINAL.has(frame.state)) this.unanswered.delete(frame.task_id);
    const known = this.newest.get(frame.task_id);
    if (known && (FINAL.has(known.state) || known.seq > frame.seq)) return;
    this.newest.set(frame.task_id, frame);
    this.onJob(frame);
  }
}

// crypto.randomUUID is not there on plain http; getRandomValues is. Source: RFC 9562, section 5.4.
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
