// Where WebSockets are blocked altogether: the same snapshots and the same requests, over HTTP, every two seconds.
import { ask } from "./api.js";

const EVERY = 2000; // milliseconds
const PATIENCE = 10000; // for an answer
const PATH = { start: () => "/api/jobs/", cancel: (id) => `/api/jobs/${id}/cancel/`, retry: (id) => `/api/jobs/${id}/retry/` };
const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);

export class Polling {
  // unanswered: the frames to be sent until they are answered; take(frame), as the socket's;
  // onLink("asking" | "reconnecting")
  constructor({ unanswered, take, onLink }) {
    Object.assign(this, { unanswered, take, onLink });
    this.unfinished = new Set(); // task ids
    this.listed = false; // whether all jobs have been asked for
    this.look();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async send(frame) {
    const { type, task_id = null, ref = null } = frame;
    try {
      const { ok, status, said } = await ask(PATH[type](task_id), { method: "POST", body: frame, patience: PATIENCE });
      if (ok) this.see(said);
      else if (status < 500) this.take({ ...said, type: "error", task_id, ref });
    } catch {
      this.say("reconnecting"); // it is not answered, so the next look says it again
    }
  }

  async look() {
    await Promise.all([...this.unanswered.values()].map((frame) => this.send(frame)));
    try {
      const jobs = this.listed ? await Promise.all([...this.unfinished].map(read)) : await list();
      this.listed = true;
      this.say("asking");
      jobs.forEach((job) => this.see(job));
    } catch {
      this.listed = false;
      this.say("reconnecting");
    }
    if (!this.stopped) this.timer = setTimeout(() => this.look(), EVERY);
  }

  say(how) {
    if (!this.stopped) this.onLink(how); // else a socket is open, and says so itself
  }

  see(job) {
    if (this.stopped) return;
    if (FINAL.has(job.state)) this.unfinished.delete(job.task_id);
    else this.unfinished.add(job.task_id);
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
  const { ok, said } = await ask(path, { patience: PATIENCE });
  if (!ok) throw new Error(said.detail);
  return said;
}
