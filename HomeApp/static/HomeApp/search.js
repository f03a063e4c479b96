// Searches: each stands under its own query, and its results come in where it stands.
import $ from "../livejobs/jquery.js";
import { draw, remove } from "../livejobs/bars.js";
import { animate, complain, fill } from "../livejobs/job-bar.js";
import { JobSocket } from "../livejobs/socket.js";

const form = $("#search");
const pressed = new Set(); // refs of the searches started here, until the server has answered

const socket = new JobSocket({
  onJob: (job) => {
    if (job.kind !== "search") return draw(job);
    if (pressed.delete(job.ref)) form.find(".started").text(`Search started: ${job.title.replace(/^Search: /, "")}`);
    drawSearch(job);
  },
  onGone: remove,
  onError: (error) => {
    if (complain(error)) return;
    pressed.delete(error.ref);
    form.find(".problem").text(error.detail);
    if (error.field) form.find(`[name="${CSS.escape(error.field)}"]`).attr("aria-invalid", "true");
  },
});
animate(socket);

form.on("submit", (event) => {
  event.preventDefault();
  start(form.find("[name=query]").val());
});

function start(query) {
  form.find(".problem, .started").text("");
  form.find("[aria-invalid]").removeAttr("aria-invalid");
  pressed.add(socket.start("search", { query }));
}

function drawSearch(job) {
  const article = articleOf(job);
  fill(article, job);
  article.addClass("search");
  article.find(".answer").text(job.result?.answer ?? job.partial ?? "");
  if (job.result) article.find(".results").empty().append(job.result.results.map(item));
}

// The server may have drawn it already; else it takes its place among the others, the newest on top.
function articleOf(job) {
  const known = $(`#searches > [task-id="${CSS.escape(job.task_id)}"]`);
  if (known.length) return known;
  const article = $($("#a_search")[0].content.firstElementChild.cloneNode(true));
  article.data("job", job).attr({ "task-id": job.task_id, "data-created": job.created_at });
  const earlier = (_, other) => Date.parse(other.dataset.created) < Date.parse(job.created_at);
  const next = $("#searches > .job").filter(earlier).first();
  if (next.length) next.before(article);
  else $("#searches").append(article);
  return article;
}

function item({ title, url, content }) {
  const result = $($("#a_result")[0].content.firstElementChild.cloneNode(true));
  const link = result.find("a").text(title);
  if (/^https?:\/\//i.test(url)) link.attr({ href: url, rel: "noreferrer" });
  result.find(".url").text(url);
  result.find(".content").text(content);
  return result;
}
