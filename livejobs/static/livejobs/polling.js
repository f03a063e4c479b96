// Where WebSockets are blocked altogether: the same snapshots and the same requests, over HTTP, every two seconds.
import { ask } from "./api.js";
import { config } from "./config.js";
import { FINAL } from "./state.js";

const EVERY = 2000; // milliseconds
const PATIENCE = 10000; // for an answer
const PATH = {
  start: () => `${config.api}jobs/`,
  cancel: (id) => `${config.api}jobs/${id}/cancel/`,
  retry: (id) => `${config.api}jobs/${id}/retry/`,
};

export class Polling {
  // unanswered: the frames to be sent until they are answered; wanted: the ids of the jobs that the page shows;
  // take(frame) and upload(frame), as the socket's; onLink("asking" | "reconnecting")
  constructor({ unanswered, wanted, take, upload, onLink }) {
    Object.assign(this, { unanswered, take, upload, onLink });
    this.unfinished = new Set(wanted); // task ids
    this.listed = false; // whether all jobs have been asked for
    this.look();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async send(frame) {
    const { type, task_id = null, ref = null } = frame;
    if (frame.body) return void this.upload(frame); // the bars do not wait for it
    try {
      const signal = AbortSignal.timeout(PATIENCE);
      const { ok, status, said } = await ask(PATH[type](task_id), { method: "POST", body: frame, signal });
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
      for (const job of jobs) this.see(job);
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
    if (FINAL.has(job.state) || job.type === "gone") this.unfinished.delete(job.task_id);
    else this.unfinished.add(job.task_id);
    this.take(job);
  }
}

async function list() {
  return (await good(PATH.start())).results.reverse();
}

// Returns a job's snapshot as it is now, or a frame that says that it was deleted.
export function read(id) {
  return good(`${config.api}jobs/${id}/`, { type: "gone", task_id: id });
}

// Returns what the site answers, or `absent` if there is nothing at the address any more.
async function good(path, absent) {
  const { ok, status, said } = await ask(path, { signal: AbortSignal.timeout(PATIENCE) });
  if (status === 404 && absent) return absent;
  if (!ok) throw new Error(said.detail);
  return said;
}
