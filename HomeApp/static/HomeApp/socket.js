// The socket to ws/jobs/: snapshots come in, the newest of each job only; starts go out, and none is lost or doubled.
const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 15000;
const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);

export class JobSocket {
  // onJob(snapshot), onError(frame), onLink(open: boolean)
  constructor({ onJob, onError, onLink }) {
    Object.assign(this, { onJob, onError, onLink });
    this.newest = new Map(); // task_id -> its newest snapshot
    this.unanswered = new Map(); // ref -> the start frame, until the server has answered it
    this.wait = FIRST_WAIT;
    this.open();
    window.addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
  }

  start(kind, params) {
    const ref = uuid();
    const frame = JSON.stringify({ type: "start", kind, params, ref });
    this.unanswered.set(ref, frame);
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(frame);
    return ref;
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(`${scheme}//${location.host}/ws/jobs/`);
    this.socket.onopen = () => {
      this.wait = FIRST_WAIT;
      this.onLink(true);
      // The server takes the same ref only once, so what may have been lost is simply said again.
      for (const frame of this.unanswered.values()) this.socket.send(frame);
    };
    this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    this.socket.onclose = () => {
      this.onLink(false);
      this.timer = setTimeout(() => this.open(), this.wait * (0.5 + Math.random()));
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    };
  }

  retryNow() {
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.open();
  }

  take(frame) {
    this.unanswered.delete(frame.ref);
    if (frame.type === "error") return this.onError(frame);
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
