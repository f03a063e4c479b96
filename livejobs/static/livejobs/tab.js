// What is told of jobs while nobody looks at the page: in the tab's title, and by a notification if that was asked for.
import { FINAL } from "./state.js";
import { percent } from "./words.js";

const TITLE = document.title;
const ENDED = { SUCCESS: "Done", FAILURE: "Failed", REVOKED: "Cancelled" };
const KEY = "livejobs-notify"; // in this tab's storage, for a page that is loaded again

let running = []; // the jobs that run
let unseen = null; // the last job that has ended while the tab was hidden

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unseen = null;
  showInTitle();
});

// Says how far the jobs have come that run, or that one has ended meanwhile.
export function showInTitle(jobs = running) {
  running = jobs;
  const [one] = jobs;
  let title = jobs.length > 1 ? `${jobs.length} running` : one ? `${percent(one)} ${one.title}`.trim() : "";
  if (!title && unseen) title = `${ENDED[unseen.state]}: ${unseen.title}`;
  const whole = title ? `${title} · ${TITLE}` : TITLE;
  if (document.title !== whole) document.title = whole;
}

// Whether a notification of the job's end can be asked for.
export function canNotify(job) {
  const supported = "Notification" in window && window.isSecureContext;
  return supported && Notification.permission !== "denied" && !FINAL.has(job.state) && !asked().includes(job.task_id);
}

// Asks the visitor's leave, unless it was given before, and shows what such a notification looks like. Returns whether
// the end of the job will be notified. Chrome for Android has none that a page alone can show.
export async function notify(job) {
  if ((await Notification.requestPermission()) !== "granted") return false;
  try {
    show(job, "You will be told when this job ends.");
  } catch {
    return false;
  }
  sessionStorage.setItem(KEY, JSON.stringify([...asked(), job.task_id]));
  return true;
}

// Tells of the end of a job that ran a moment ago.
export function tellEnd(job, words) {
  if (document.hidden) unseen = job;
  if (!asked().includes(job.task_id)) return;
  sessionStorage.setItem(KEY, JSON.stringify(asked().filter((id) => id !== job.task_id)));
  show(job, words);
}

function show(job, words) {
  const notification = new Notification(job.title, { body: words, tag: job.task_id });
  notification.onclick = () => window.focus();
}

function asked() {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
}
