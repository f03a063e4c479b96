// A snapshot becomes a bar: one article for each job, the newest on top.
import $ from "./jquery.js";

const RUNNING = (job) => (job.attempt > 1 ? `Running, attempt ${job.attempt}.` : "Running.");
const WORDS = {
  PENDING: () => "Waiting for a worker.",
  STARTED: RUNNING,
  PROGRESS: (job) => [RUNNING(job), job.description].filter(Boolean).join(" "),
  RETRY: (job) => `${job.error} It will be tried again.`,
  SUCCESS: (job) => (job.result?.file && !job.url ? "Done. The file has been deleted." : `Done. ${answer(job.result)}`.trim()),
  FAILURE: (job) => `Failed${at(job)}. ${job.error}`,
  REVOKED: (job) => `Cancelled${at(job)}.`,
};

const SILENCE = 30; // seconds without news of a running job, after which the page says so
const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);
// Milliseconds that this browser's clock is ahead of the server's.
const AHEAD = Date.now() - 1000 * document.documentElement.dataset.now;

const articles = new Map(); // task_id -> its article
const asked = new Set(); // task ids whose end has been asked for here

// Lets the buttons of all bars speak through a socket, and the silent ones say so.
export function animate(socket) {
  onPress(".cancel", (article, job) => {
    asked.add(job.task_id);
    fill(article, job);
    socket.cancel(job.task_id);
  });
  onPress(".retry", (article, job) => {
    article.find(".retry").prop("disabled", true); // unless it is refused: the new job has a button of its own
    socket.retry(job.task_id);
  });
  setInterval(() => $(".job").each((_, article) => listen($(article))), 1000);
}

// The second click of a double click is none: what was pressed may have made room for another button.
function onPress(button, act) {
  $("main").on("click", button, (event) => {
    if (event.detail > 1) return;
    const article = $(event.currentTarget).closest(".job");
    article.find(".problem").text("");
    act(article, article.data("job"));
  });
}

export function draw(job) {
  const kind = $("#jobs").data("kind");
  if (kind && job.kind !== kind) return; // this page shows one kind only
  fill(articles.get(job.task_id) ?? place(job), job);
}

export function fill(article, job) {
  article.attr("class", `job ${job.state}`).data("job", job);
  article.find("h2").text(job.title);
  article.find(".percent").text(percent(job));
  const bar = article.find("progress");
  const running = job.state === "STARTED" || job.state === "PROGRESS";
  if (job.percent === null && running) bar.removeAttr("value"); // indeterminate
  else bar.attr("value", job.percent ?? 0);
  const cancelling = !FINAL.has(job.state) && (job.cancelling || asked.has(job.task_id));
  const words = article.find(".words");
  const said = cancelling ? "Cancelling…" : WORDS[job.state](job);
  if (words.text() !== said) words.text(said); // a screen reader reads what changes
  article.find(".cancel").prop({ hidden: FINAL.has(job.state), disabled: cancelling });
  article.find(".retry").prop({ hidden: job.state !== "FAILURE" && job.state !== "REVOKED", disabled: false });
  article.find(".download").prop("hidden", !job.url).attr("href", job.url);
  listen(article);
}

// Shows an error that is about one job, where that job stands.
export function complain(error) {
  const article = $(".job").filter((_, one) => $(one).data("job")?.task_id === error.task_id);
  if (!error.task_id || !article.length) return false;
  const job = article.data("job");
  asked.delete(error.task_id);
  fill(article, job);
  const granted = error.code === "already_ended" && job.state === "REVOKED"; // said again after it was heard
  if (!granted) article.find(".problem").text(error.detail.replace(/^task_id: /, ""));
  return true;
}

function listen(article) {
  const { job } = article.data();
  const running = job && (job.state === "STARTED" || job.state === "PROGRESS");
  const silent = running ? (Date.now() - AHEAD - Date.parse(job.reported_at ?? job.started_at)) / 1000 : 0;
  article.find(".silence").text(silent >= SILENCE ? `No news for ${lasting(silent)}.` : "");
}

function lasting(seconds) {
  return seconds < 120 ? `${Math.floor(seconds)} s` : `${Math.floor(seconds / 60)} min`;
}

// The ids name the newest job's bar; the bars of earlier jobs go on below it.
function place(job) {
  const idle = $("#jobs > .idle");
  const article = idle.length ? idle : $("#jobs > .job").first().clone();
  article.data("created", job.created_at);
  const later = $("#jobs > .job").not(idle).filter((_, other) => $(other).data("created") > job.created_at);
  if (later.length) {
    article.find("[id]").removeAttr("id");
    later.last().after(article);
  } else if (!idle.length) {
    $("#jobs > .job [id]").removeAttr("id");
    article.find("progress").attr("id", "progress_bar");
    article.find(".percent").attr("id", "div_progress_val");
    $("#jobs").prepend(article);
  }
  article.find(".problem").text("");
  articles.set(job.task_id, article);
  return article;
}

function percent(job) {
  return job.percent === null ? "" : `${Math.floor(job.percent)}%`;
}

function at(job) {
  return job.percent === null ? "" : ` at ${Math.floor(job.percent)}%`;
}

// A result may bring its own words, as `summary`.
function answer(result) {
  if (result === null) return "";
  return result.summary ?? `The answer is ${typeof result === "object" ? JSON.stringify(result) : result}.`;
}
