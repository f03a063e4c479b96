// A snapshot becomes a bar: one article for each job, the newest on top.
import $ from "./jquery.js";

const RUNNING = (job) => (job.attempt > 1 ? `Running, attempt ${job.attempt}.` : "Running.");
const WORDS = {
  PENDING: () => "Waiting for a worker.",
  STARTED: RUNNING,
  PROGRESS: (job) => [RUNNING(job), job.description].filter(Boolean).join(" "),
  RETRY: (job) => `${job.error} It will be tried again.`,
  SUCCESS: (job) => file(job) ?? (job.result === null ? "Done." : `Done. The answer is ${answer(job.result)}.`),
  FAILURE: (job) => `Failed${at(job)}. ${job.error}`,
  REVOKED: (job) => `Cancelled${at(job)}.`,
};

const articles = new Map(); // task_id -> its article

export function draw(job) {
  const kind = $("#jobs").data("kind");
  if (kind && job.kind !== kind) return; // this page shows one kind only
  const article = articles.get(job.task_id) ?? place(job);
  article.attr("class", `job ${job.state}`);
  article.find("h2").text(job.title);
  article.find(".percent").text(percent(job));
  const bar = article.find("progress");
  const running = job.state === "STARTED" || job.state === "PROGRESS";
  if (job.percent === null && running) bar.removeAttr("value"); // indeterminate
  else bar.attr("value", job.percent ?? 0);
  const words = article.find(".words");
  const said = WORDS[job.state](job);
  if (words.text() !== said) words.text(said); // a screen reader reads what changes
  article.find(".download").prop("hidden", !job.url).attr("href", job.url);
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
  articles.set(job.task_id, article);
  return article;
}

function percent(job) {
  return job.percent === null ? "" : `${Math.floor(job.percent)}%`;
}

function at(job) {
  return job.percent === null ? "" : ` at ${Math.floor(job.percent)}%`;
}

// What is said of a job that has made a file; null of one that has not.
function file(job) {
  if (!job.result?.file) return null;
  return job.url ? `Done. Rows in the file: ${job.result.rows}.` : "The file has been deleted.";
}

function answer(result) {
  return typeof result === "object" ? JSON.stringify(result) : result;
}
