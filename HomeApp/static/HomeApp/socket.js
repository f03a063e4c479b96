// The socket to ws/jobs/: snapshots come in, the newest of each job only; what is asked goes out, and none of it is
// lost or doubled.
import $ from "./jquery.js";
import { Polling } from "./polling.js";

const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 5000; // so that the truth is here within 5 s of its being told again
const PING_EVERY = 20000;
const PATIENCE = 10000; // for the answer to a ping: a line that has been cut silently looks open for ever
const BLOCKED = 3; // tries of a page that never had a socket on its network, after which it asks over HTTP instead
const TOO_MANY_SOCKETS = 4429; // the site's close code: that will not pass in a moment
const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);

const LINK = { live: "live", reconnecting: "reconnecting…", asking: "WebSockets are blocked here: asking every 2\u00a0s" };

export class JobSocket {
  // onJob(snapshot), onError(frame)
  constructor({ onJob, onError }) {
    Object.assign(this, { onJob, onError });
    this.newest = new Map(); // task_id -> its newest snapshot
    this.unanswered = new Map(); // ref, or task_id of a cancel -> the frame, until the server has answered it
    this.wait = FIRST_WAIT;
    this.tries = 0;
    this.polling = null;
    this.open();
    window.addEventListener("online", () => {
      this.tries = 0; // it may be another network
      this.wake();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.wake());
  }

  start(kind, params) {
    return this.ask({ type: "start", kind, params, ref: uuid() });
  }

  retry(task_id) {
    return this.ask({ type: "retry", task_id, ref: uuid() });
  }

  cancel(task_id) {
    this.ask({ type: "cancel", task_id });
  }

  ask(frame) {
    this.unanswered.set(frame.ref ?? frame.task_id, frame);
    if (this.polling) this.polling.send(frame);
    else if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
    return frame.ref;
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/ws/jobs/`);
    this.socket.onopen = () => {
      this.wait = FIRST_WAIT;
      this.tries = -Infinity; // it can be opened here
      this.polling?.stop();
      this.polling = null;
      this.onLink("live");
      // The server takes the same ref only once, so what may have been lost is simply said again.
      for (const frame of this.unanswered.values()) this.socket.send(JSON.stringify(frame));
      this.within(PING_EVERY, () => this.ping());
    };
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = ({ code }) => this.closed(code);
    this.within(PATIENCE, () => this.closed());
  }

  closed(code) {
    const { socket } = this;
    socket.onopen = socket.onmessage = socket.onclose = null; // closing waits for the other side, which may be gone
    socket.close();
    this.tries += 1;
    if (code === TOO_MANY_SOCKETS) this.wait = LONGEST_WAIT;
    if (this.tries >= BLOCKED) this.poll();
    else this.onLink("reconnecting");
    this.within(this.wait * (0.5 + Math.random() / 2), () => this.open());
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
  }

  // Until a socket opens after all: it is tried on.
  poll() {
    if (this.polling) return;
    const { unanswered } = this;
    this.polling = new Polling({ unanswered, take: (frame) => this.take(frame), onLink: (how) => this.onLink(how) });
  }

  ping() {
    this.socket.send('{"type": "ping"}');
    this.within(PATIENCE, () => this.closed());
  }

  onLink(how) {
    $("#link").toggleClass("live", how === "live").text(LINK[how]);
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
    if (!this.polling) this.within(PING_EVERY, () => this.ping());
    if (frame.type === "pong") return;
    this.unanswered.delete(frame.ref ?? frame.task_id);
    if (frame.type === "error") return this.onError(frame);
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
