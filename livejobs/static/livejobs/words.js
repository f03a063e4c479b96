// What the page says of a job. The server says the same in job_words.html.
import { answer } from "./result.js";
import { FINAL, isRunning } from "./state.js";

const RUNNING = (job) => {
  if (job.attempt < 2) return "Running.";
  const from = job.resumed_from === null ? "" : `, from ${Math.floor(job.resumed_from)}%`;
  return [`Running, attempt ${job.attempt}${from}.`, job.attempt_reason].filter(Boolean).join(" ");
};
const WORDS = {
  PENDING: waiting,
  STARTED: RUNNING,
  PROGRESS: (job) => [RUNNING(job), stage(job), parts(job), job.description].filter(Boolean).join(" "),
  RETRY: (job) => [job.error, "The job will begin again.", job.place && waiting(job)].filter(Boolean).join(" "),
  SUCCESS: (job) => `Done. ${answer(job)}`.trim(),
  FAILURE: (job) => `Failed${at(job)}. ${job.error}`,
  REVOKED: (job) => `Cancelled${at(job)}.`,
};

const ordinal = new Intl.PluralRules("en", { type: "ordinal" });
const ORDINAL = { one: "st", two: "nd", few: "rd", other: "th" };

// How a job stands, in sentences.
export function wordsOf(job, cancelling) {
  return cancelling ? "Cancelling…" : WORDS[job.state](job);
}

// How far a job has come.
export function percent(job) {
  return job.percent === null ? "" : `${Math.floor(job.percent)}%`;
}

// How long a job has waited or run; how long until it begins again; how long it took, and when it ended.
// now: milliseconds, by the server's clock
export function clock(job, now) {
  const since = (moment) => Math.max(0, (now - Date.parse(moment)) / 1000);
  if (FINAL.has(job.state)) {
    const took = job.started_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 : null;
    return [took === null ? "" : lasted(took), before(since(job.finished_at))].filter(Boolean).join(", ");
  }
  if (isRunning(job)) return digits(since(job.started_at));
  const wait = job.retry_at ? (Date.parse(job.retry_at) - now) / 1000 : 0;
  return wait > 0 ? `begins again in ${digits(wait)}` : digits(since(job.created_at));
}

// Returns seconds as a clock shows them: 0:18, 12:05, 1:02:33.
function digits(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

// Returns how long something has lasted, as the filter of this name does.
function lasted(seconds) {
  return seconds < 60 ? `${Math.max(0, seconds).toFixed(1)} s` : digits(seconds);
}

function before(seconds) {
  if (seconds < 60) return "just now";
  const [unit, length] = seconds < 3600 ? ["min", 60] : seconds < 86400 ? ["h", 3600] : ["d", 86400];
  return `${Math.floor(seconds / length)} ${unit} ago`;
}

// Returns seconds without news, in words.
export function lasting(seconds) {
  return seconds < 120 ? `${Math.floor(seconds)} s` : `${Math.floor(seconds / 60)} min`;
}

// The time left. The range widens while nothing is heard of a running job: the soonest end comes nearer, and the latest
// does not.
// passed: seconds since the snapshot
export function left(job, passed) {
  if (!job.left) return "";
  const { low, high } = job.left;
  const [soonest, rest] = isRunning(job) ? [Math.max(low - passed, 0), "left"] : [low, "once it runs"];
  const [unit, name] = high < 100 ? [1, "s"] : high < 6000 ? [60, "min"] : [3600, "h"];
  const [from, to] = [Math.floor(soonest / unit), Math.max(Math.ceil(high / unit), 1)];
  return to - from <= Math.max(1, to / 5) ? `about ${to} ${name} ${rest}` : `${from}–${to} ${name} ${rest}`;
}

// What a job waits for: a worker that is running, or the jobs before it.
function waiting({ place, workers }) {
  const words = "Waiting for a worker";
  if (!place) return `${words}.`;
  if (!workers) return `${words}. No worker is running.`;
  const which = place === 1 ? "next" : `${place.toLocaleString("en")}${ORDINAL[ordinal.select(place)]}`;
  return `${words}, ${which} in line.`;
}

// The part of the work that the task is in, and its own count.
function stage({ stage, current, total, children }) {
  if (!stage) return "";
  const named =
    stage.of === null ? stage.name || `Step ${stage.index}` : `${stage.name}, ${stage.index} of ${stage.of}`;
  if (current === null || children) return `${named}.`;
  return `${named}: ${count(current)}${total === null ? "" : ` of ${count(total)}`}.`;
}

// How the children of a job stand; those that failed are named.
function parts({ children }) {
  if (!children) return "";
  const { total, succeeded, failed, running, failures } = children;
  const named = `${failures.join(", ")}${failed > failures.length ? ", …" : ""}`;
  const words = [`${count(succeeded)} of ${count(total)} parts done`];
  if (running) words.push(`${count(running)} running`);
  if (failed) words.push(`${count(failed)} failed: ${named}`);
  return `${words.join(", ")}.`;
}

function count(number) {
  return number.toLocaleString("en");
}

function at(job) {
  return job.percent === null ? "" : ` at ${Math.floor(job.percent)}%`;
}
