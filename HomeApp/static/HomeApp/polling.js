// Where WebSockets are blocked altogether: the same snapshots and the same requests, over HTTP, every two seconds.
import { ask } from "./api.js";

const EVERY = 2000; // milliseconds
const PATH = { start: () => "/api/jobs/", cancel: (id) => `/api/jobs/${id}/cancel/`, retry: (id) => `/api/jobs/${id}/retry/` };
const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);

export class Polling {
  // take(frame), as the socket's; onLink("asking" | "reconnecting")
  constructor({ take, onLink }) {
    Object.assign(this, { take, onLink });
    this.unfinished = null; // task ids; null until all jobs have been asked for
    this.look();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async send(frame) {
    const { type, task_id = null, ref = null } = frame;
    try {
      const { ok, status, said } = await ask(PATH[type](task_id), { method: "POST", body: frame });
      if (ok) this.see(said);
      else if (status < 500) this.take({ ...said, type: "error", task_id, ref });
    } catch {
      this.onLink("reconnecting"); // it is not answered, so it will be said again
    }
  }

  async look() {
    try {
      const jobs = this.unfinished ? await Promise.all([...this.unfinished].map(read)) : await list();
      this.unfinished ??= new Set();
      this.onLink("asking");
      jobs.forEach((job) => this.see(job));
    } catch {
      this.unfinished = null;
      this.onLink("reconnecting");
    }
    if (!this.stopped) this.timer = setTimeout(() => this.look(), EVERY);
  }

  see(job) {
    if (this.stopped) return;
    if (FINAL.has(job.state)) this.unfinished?.delete(job.task_id);
    else this.unfinished?.add(job.task_id);
    this.take(job);
  }
}

async function list() {
  return (await good("/api/jobs/")).results.reverse();
}

function read(id) {
  return good(`/api/jobs/${id}/`);
}

async function good(path) {
  const { ok, said } = await ask(path);
  if (!ok) throw new Error(said.detail);
  return said;
}
