// <job-bar task-id="…">: one job, live. The server draws it by job.html; one that a script adds is made of the same.
import $ from "./jquery.js";
import { announce } from "./announcer.js";
import { config } from "./config.js";
import { drawFiles, drawResult } from "./result.js";
import { FINAL, isRunning, isUnknown } from "./state.js";
import { canNotify, notify, tellEnd } from "./tab.js";
import { clock, lasting, left, percent, wordsOf } from "./words.js";

const NIL = "00000000-0000-0000-0000-000000000000"; // stands for a job in the address of its page
const STATES = "PENDING STARTED PROGRESS RETRY SUCCESS FAILURE REVOKED";
const NOT_ALLOWED = "This browser shows no notifications of this site: allow them in its settings.";
const SILENCE = 30; // seconds without news of a running job, after which the page says so
// Milliseconds that this browser's clock is ahead of the server's.
const AHEAD = Date.now() - 1000 * config.now;

const bars = new Map(); // task_id -> the bars that show the job
const asked = new Set(); // ids of the jobs whose end has been asked for here
let line; // the page's socket: a job is not silent while the line is

class JobBar extends HTMLElement {
  static observedAttributes = ["task-id"];

  connectedCallback() {
    if (!this.firstElementChild) this.append(blank());
    this.classList.add("job");
    this.join(this.getAttribute("task-id"));
  }

  disconnectedCallback() {
    this.leave();
  }

  attributeChangedCallback(_, before, now) {
    if (this.isConnected && before !== now) this.join(now);
  }

  join(taskId) {
    if (this.taskId === taskId) return;
    this.leave();
    this.taskId = taskId;
    if (!taskId) return;
    bars.set(taskId, (bars.get(taskId) ?? new Set()).add(this));
    if (!$(this).data("job")) line?.want(taskId);
  }

  leave() {
    bars.get(this.taskId)?.delete(this);
    if (!bars.get(this.taskId)?.size) bars.delete(this.taskId);
    this.taskId = null;
  }
}

// Returns what a bar holds before anything is known of its job.
export function blank() {
  return document.getElementById("livejobs").content.cloneNode(true);
}

// Returns the bars of a job, in jQuery's hands.
export function barsOf(taskId) {
  return $([...(bars.get(taskId) ?? [])]);
}

// Lets the buttons of all bars speak through a socket, and the clocks go on.
export function animate(socket) {
  line = socket;
  onPress(".cancel", (bar, job) => {
    asked.add(job.task_id);
    fill(bar, job);
    socket.cancel(job.task_id);
  });
  onPress(".retry", (bar, job) => {
    bar.find(".retry").prop("disabled", true); // unless it is refused: the new job has a button of its own
    socket.retry(job.task_id);
  });
  onPress(".notify", async (bar, job) => {
    const given = await notify(job);
    bar.find(".notify").prop("hidden", true);
    bar.find(".problem").text(given ? "" : NOT_ALLOWED);
  });
  for (const taskId of bars.keys()) socket.want(taskId);
  setInterval(() => $("job-bar").each((_, bar) => tick($(bar))), 1000);
}

// The second click of a double click is none: what was pressed may have made room for another button.
function onPress(button, act) {
  $(document).on("click", `job-bar ${button}`, (event) => {
    const bar = $(event.currentTarget).closest("job-bar");
    if (event.detail > 1 || !bar.data("job")) return;
    bar.find(".problem").text("");
    act(bar, bar.data("job"));
  });
}

// Draws a snapshot into a bar; only what has changed is written.
export function fill(bar, told) {
  const shown = bar.data("job");
  const job = notBelow(shown, told);
  const isFinal = FINAL.has(job.state);
  bar.data("job", job).data("told", Date.now());
  const { percent: number, gauge, words } = partsOf(bar);
  const unknown = isUnknown(job);
  put(number, unknown ? "" : percent(job));
  // Without a value it is indeterminate.
  if (unknown) gauge.removeAttribute("value");
  else gauge.setAttribute("value", job.percent ?? 0);
  const cancelling = !isFinal && (job.cancelling || asked.has(job.task_id));
  const said = wordsOf(job, cancelling);
  put(words, said);
  announce(job, said, { final: isFinal, running: isRunning(job) });
  tick(bar);
  const look = `${job.state} ${cancelling} ${job.title}`;
  if (!isFinal && look === bar.data("look")) return;
  if (isFinal && shown && shown.task_id === job.task_id && !FINAL.has(shown.state)) tellEnd(job, said);
  bar.data("look", look);
  bar.removeClass(`idle ${STATES}`).addClass(job.state);
  name(bar, job.title, config.jobPage.replace(NIL, job.task_id));
  const hadFocus = bar.find(".cancel").is(":focus");
  bar.find(".cancel").prop({ hidden: isFinal, disabled: cancelling });
  bar.find(".notify").prop("hidden", !canNotify(job));
  bar.find(".retry").prop({ hidden: job.state !== "FAILURE" && job.state !== "REVOKED", disabled: false });
  if (hadFocus && isFinal) bar.find(".retry:visible, h2 a").first().trigger("focus");
  drawResult(bar.find(".result").first(), job);
  drawFiles(bar, job);
}

// Returns the elements of a bar that each report changes.
function partsOf(bar) {
  const known = bar.data("parts");
  if (known) return known;
  const part = (selector) => bar[0].querySelector(selector);
  const parts = { percent: part(".percent"), gauge: part("progress"), words: part(".words") };
  Object.assign(parts, { clock: part(".clock"), left: part(".left"), silence: part(".silence") });
  bar.data("parts", parts);
  return parts;
}

// Shows that there is no such job any more.
export function clear(bar) {
  bar.removeClass(STATES).addClass("idle").removeData("job").removeData("look");
  bar.find(".words").text("This job is not there. It may have been deleted.");
  bar.find(".percent, .clock, .left, .silence").text("");
  bar.find("progress").attr("value", 0);
  bar.find(".actions button").prop("hidden", true);
  bar.find(".files").empty();
}

// Gives the bar and its buttons the name of their job.
export function name(bar, title, address) {
  const [heading, gauge] = [bar.find("h2"), bar.find("progress")];
  if (heading.text() !== title) {
    const link = address ? $("<a>").attr("href", address).text(title) : document.createTextNode(title);
    heading.empty().append(link);
  }
  if (gauge.attr("aria-label") === title) return;
  gauge.removeAttr("aria-labelledby").attr("aria-label", title);
  for (const button of [".notify", ".cancel", ".retry", ".download"]) {
    bar.find(button).each((_, one) => one.setAttribute("aria-label", `${one.textContent.trim()}: ${title}`));
  }
}

// Changes a text if it is another one.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A relay that was killed has told percentages of its last second that no row knows: what was shown of an attempt stays.
function notBelow(shown, job) {
  const same = shown?.task_id === job.task_id && shown.attempt === job.attempt;
  if (!same || (shown.percent ?? 0) <= (job.percent ?? 0)) return job;
  return { ...job, percent: shown.percent, current: shown.current, total: shown.total };
}

// Shows an error that is about one job, where that job stands. Returns whether this page shows that job.
export function complain(error) {
  const shown = error.task_id ? barsOf(error.task_id).filter((_, bar) => $(bar).data("job")) : $();
  if (!shown.length) return false;
  asked.delete(error.task_id);
  shown.each((_, one) => {
    const bar = $(one);
    const job = bar.data("job");
    fill(bar, job);
    const granted = error.code === "already_ended" && job.state === "REVOKED"; // said again after it was heard
    if (!granted) bar.find(".problem").text(error.detail.replace(/^task_id: /, ""));
  });
  return true;
}

// What changes with time alone.
function tick(bar) {
  const { job, told } = bar.data();
  if (!job) return;
  const [now, running] = [Date.now() - AHEAD, isRunning(job)];
  const silent = running ? (now - Date.parse(job.reported_at ?? job.started_at)) / 1000 : 0;
  const isSilent = silent >= SILENCE && !line?.isAway;
  const asOf = line?.isAway && !FINAL.has(job.state) ? `As of ${new Date(line.heardAt).toLocaleTimeString()}.` : "";
  const parts = partsOf(bar);
  put(parts.silence, isSilent ? `No news for ${lasting(silent)}.` : asOf);
  put(parts.clock, clock(job, now));
  put(parts.left, left(job, (Date.now() - told) / 1000));
  if (isSilent) announce(job, "", { final: false, running, silent: true });
}

customElements.define("job-bar", JobBar);
