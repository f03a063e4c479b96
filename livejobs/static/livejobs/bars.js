// The bars of a page: those of {% job_bars %} come, are put in order and go; any other one is filled where it stands.
// What runs is above what waits, and that above what has ended.
import $ from "./jquery.js";
import { barsOf, blank, clear, fill, name } from "./job-bar.js";
import { FINAL, isRunning } from "./state.js";
import { showInTitle } from "./tab.js";

const FOLDED_AFTER = 3; // jobs that have ended
const UNSENT = 0;
const RUNNING = 1;
const WAITING = 2;
const ENDED = 3;

const list = $("#jobs");
const more = $("<button>", { type: "button", id: "more_jobs", hidden: true });
const counts = $("#job_counts"); // its place is kept from the start, so that nothing moves
const idle = list.children(".idle").clone(); // for a page whose last job is deleted
const hovers = matchMedia("(hover: hover)");
const undrawn = new Map(); // task_id -> the snapshot to be drawn in the next frame
let unfolded = false;
let running = []; // the bars of the jobs that run

list.after(more);
list.on("pointerleave", arrange);
more.on("click", () => {
  unfolded = true;
  arrange();
});

// Draws a job in the next frame, the newest of its snapshots only. A hidden tab paints no frames.
export function draw(job) {
  if (!undrawn.size) document.hidden ? setTimeout(drawNow, 250) : requestAnimationFrame(drawNow);
  undrawn.set(job.task_id, job);
}

function drawNow() {
  if (!undrawn.size) return;
  let moved = false;
  for (const job of undrawn.values()) {
    let bars = barsOf(job.task_id);
    if (!bars.length && isListed(job)) {
      bars = placed(job);
      moved = true;
    }
    bars.each((_, one) => {
      const shown = $(one).data("job");
      moved ||= rank(shown) !== rank(job) || shown.place !== job.place;
      fill($(one), job);
    });
  }
  undrawn.clear();
  if (moved) arrange();
  say(moved);
}

// A page may show jobs of one kind only.
function isListed(job) {
  return list.length > 0 && (!list.data("kind") || job.kind === list.data("kind"));
}

// Returns a bar for a job that has none yet, above all others.
function placed(job) {
  const waiting = list.children(".idle");
  const bar = waiting.length ? waiting : $("<job-bar>").append(blank()).prependTo(list);
  bar.removeClass("idle").data("job", job).attr("task-id", job.task_id);
  return bar;
}

function rank(job) {
  if (!job) return UNSENT;
  return FINAL.has(job.state) ? ENDED : isRunning(job) ? RUNNING : WAITING;
}

// Running jobs and those that have ended: the newest first. Those that wait: in the order of the queue.
function compare(one, other) {
  const [a, b] = [$(one).data("job"), $(other).data("job")];
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (!a) return 0;
  if (rank(a) === WAITING && a.place !== b.place) return (a.place ?? Infinity) - (b.place ?? Infinity);
  return Date.parse(b.created_at) - Date.parse(a.created_at);
}

// Puts the bars in order, unless the pointer is on them: nothing moves under it.
function arrange() {
  if (!list.length) return;
  const bars = list.children("job-bar").get();
  mark(bars);
  if (hovers.matches && list.is(":hover")) return;
  const sorted = [...bars].sort(compare);
  if (sorted.some((bar, index) => bar !== bars[index])) {
    const focused = document.activeElement;
    list.append(sorted);
    if (list[0].contains(focused)) focused.focus({ preventScroll: true });
  }
  fold(sorted);
}

function fold(bars) {
  const ended = bars.filter((bar) => rank($(bar).data("job")) === ENDED);
  const tooMany = unfolded ? [] : ended.slice(FOLDED_AFTER);
  for (const bar of bars) bar.hidden = tooMany.includes(bar);
  more.prop("hidden", !tooMany.length).text(`Show ${tooMany.length} more that have ended`);
}

// The ids name the newest job's bar.
function mark(bars) {
  const created = (bar) => Date.parse($(bar).data("job")?.created_at ?? "1970-01-01");
  const newest = bars.reduce((best, bar) => (created(bar) > created(best) ? bar : best), bars[0]);
  if (!newest || $(newest).find("#progress_bar").length) return;
  list.find("#progress_bar, #div_progress_val").removeAttr("id");
  $(newest).find("progress").attr("id", "progress_bar");
  $(newest).find(".percent").attr("id", "div_progress_val");
}

// Says how many jobs run, wait and have ended; and in the tab's title how far they have come.
function say(moved) {
  if (moved) {
    const jobs = $("job-bar")
      .get()
      .filter((bar) => $(bar).data("job"));
    const of = (one) => jobs.filter((bar) => rank($(bar).data("job")) === one);
    running = of(RUNNING);
    const all = [
      [running, "running"],
      [of(WAITING), "waiting"],
      [of(ENDED), "ended"],
    ];
    const named = all.filter(([some]) => some.length).map(([some, word]) => `${some.length} ${word}`);
    counts.text(jobs.length > 1 ? named.join(", ") : "");
  }
  showInTitle(running.map((bar) => $(bar).data("job")));
}

// Shows a press that is not sent yet, until the server has answered it; `forget` takes it back.
export function expect(ref, title, words, forget) {
  if (!list.length) return;
  drop(ref);
  const bar = $("<job-bar>").addClass("job unsent").attr("data-ref", ref).append(blank());
  name(bar, title);
  bar.find(".words").text(words);
  bar
    .find(".cancel")
    .prop("hidden", false)
    .removeClass("cancel")
    .on("click", () => {
      forget();
      drop(ref);
    });
  list.prepend(bar);
}

// Removes what `expect` shows.
export function drop(ref) {
  list
    .children(".unsent")
    .filter((_, one) => one.dataset.ref === ref)
    .remove();
}

// Takes the bar of a job that was deleted out of the list; one that stands elsewhere says so.
export function remove(taskId) {
  drawNow();
  const bars = barsOf(taskId);
  const listed = bars.filter((_, bar) => bar.parentElement === list[0]);
  listed.remove();
  bars.not(listed).each((_, bar) => clear($(bar)));
  if (list.length && !list.children("job-bar").length) list.append(idle.clone());
  arrange();
  say(true);
}
