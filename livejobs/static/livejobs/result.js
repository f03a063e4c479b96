// What a job has come to: a sentence or a table, and its files. All of it is text: nothing is taken for HTML.
import $ from "./jquery.js";

const DATE_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$/;

// Returns a result as a sentence, or nothing if a table shows it. A result may bring its own words, as `summary`.
export function answer({ result, table, files }) {
  if (files?.length === 0) return result.file ? "The file has been deleted." : "The files have been deleted.";
  if (result === null) return "";
  if (typeof result !== "object") return `The answer is ${readable(String(result))}.`;
  if (typeof result.summary === "string") return result.summary;
  return table === null && !files ? "The answer is empty." : "";
}

// Shows what no sentence tells, unless the server has drawn it, or a script of the page does: it hears of it by the
// event livejobs:result, and calls preventDefault.
export function drawResult(element, job) {
  if (job.state !== "SUCCESS") element.empty();
  else if (element.length && !element.children().length) {
    const event = new CustomEvent("livejobs:result", { detail: job, bubbles: true, cancelable: true });
    if (element[0].dispatchEvent(event) && job.table) element.append(tableOf(job.table));
  }
  localize(element.find("time"));
}

function tableOf({ head, rows, more }) {
  const table = $("<table>");
  if (head) table.append($("<thead>").append(rowOf(head, (name) => $("<th>", { scope: "col" }).text(name))));
  table.append($("<tbody>").append(rows.map((row) => rowOf(row, cell))));
  return more ? [table, $("<p>").addClass("more").text(more)] : table;
}

function rowOf(texts, cell) {
  return $("<tr>").append(texts.map(cell));
}

function cell(text) {
  return DATE_TIME.test(text) ? $("<td>").append($("<time>").attr("datetime", text)) : $("<td>").text(text);
}

// Shows a link for each file, unless they are shown already: one of them may have the focus.
export function drawFiles(article, { url, files, title }) {
  const made = !url ? [] : files?.length ? files : [{ url }];
  const place = article.find(".files");
  const shown = place.find(".download").get();
  if (shown.map((link) => link.getAttribute("href")).join() === made.map((file) => file.url).join()) return;
  const links = made.map(({ name, url }) => {
    const words = made.length > 1 ? `Download ${name}` : "Download";
    return $("<a>")
      .addClass("download")
      .attr({ href: url, "aria-label": `${words}: ${title}` })
      .text(words);
  });
  place.empty().append(links);
}

// Shows moments in the visitor's time zone.
export function localize(times) {
  for (const time of times) time.textContent = readable(time.dateTime);
}

// Returns a date-time as a person writes it, a moment in the visitor's time zone; any other text as it is.
function readable(text) {
  const found = DATE_TIME.exec(text);
  if (!found || Number.isNaN(Date.parse(text))) return text;
  if (!found[2]) return text.slice(0, 19).replace("T", " ");
  // Swedish dates and times are those of ISO 8601.
  return new Date(text).toLocaleString("sv", { dateStyle: "short", timeStyle: "long" });
}
