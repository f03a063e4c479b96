// START: each press starts a job of its own, and each job has a bar of its own.
import $ from "./jquery.js";
import { draw, drop, expect, remove } from "./bars.js";
import { config } from "./config.js";
import { animate, complain } from "./job-bar.js";
import { localize } from "./result.js";
import { JobSocket } from "./socket.js";

if (!$("#link").length) $("#jobs").before('<p id="link" role="status">connecting…</p>');

const LATER = "Will be sent when the line is back.";
const UPLOADING = "Uploading…";

const pressed = new Map(); // ref -> the form it was started from, until the server has answered

const socket = new JobSocket({
  onJob: (job) => {
    pressed.delete(job.ref);
    drop(job.ref);
    draw(job);
  },
  onGone: remove,
  onError: (error) => {
    if (complain(error)) return;
    drop(error.ref);
    const form = pressed.get(error.ref) ?? $("form.start").first();
    pressed.delete(error.ref);
    complainAt(form, error);
  },
  onUnsent: (ref) => expectAt(pressed.get(ref), ref, LATER),
});
animate(socket);
localize($("time.moment"));

$("form.start").on("submit", (event) => {
  event.preventDefault();
  const form = $(event.currentTarget);
  clear(form);
  if (isTooLarge(form)) return;
  const ref = socket.start(form.data("kind"), paramsOf(form[0]), form[0]);
  pressed.set(ref, form);
  if (socket.isAway) expectAt(form, ref, LATER);
  else if (socket.unanswered.get(ref)?.body) expectAt(form, ref, UPLOADING);
});

function expectAt(form, ref, words) {
  expect(ref, form.find("button").text().trim(), words, () => {
    socket.forget(ref);
    pressed.delete(ref);
  });
}

// The second click of a double click starts nothing.
$("form.start button").on("click", (event) => event.originalEvent.detail < 2);

// What mends an error takes it away.
$("form.start").on("input change", (event) => {
  clear($(event.currentTarget));
  isTooLarge($(event.currentTarget));
});

// Says so if a file that was chosen is larger than the site takes.
function isTooLarge(form) {
  const limit = config.uploadMib * 2 ** 20;
  const input = [...form[0].elements].find(({ files }) => [...(files ?? [])].some(({ size }) => size > limit));
  if (!input) return false;
  const detail = `${input.name}: At most ${config.uploadMib} MiB can be uploaded. This file is larger.`;
  complainAt(form, { detail, field: input.name });
  return true;
}

function clear(form) {
  form.find(".problem").text("");
  form.find("[aria-invalid]").removeAttr("aria-invalid aria-describedby");
}

// Shows an error at its form, with the label of the field in place of its name.
function complainAt(form, { detail, field }) {
  const name = CSS.escape(field ?? "");
  const legend = form.find(`legend[data-field="${name}"]`); // of a field with several inputs
  const input = legend.length ? legend.parent().find(":input") : form.find(`[name="${name}"]`);
  const heading = legend.length || !input.length ? legend : form.find(`label[for="${CSS.escape(input[0].id)}"]`);
  const label = heading.text().trim();
  const problem = form.find(".problem").last();
  problem.text(label && detail.startsWith(`${field}: `) ? `${label}: ${detail.slice(field.length + 2)}` : detail);
  if (!input.length) return;
  problem[0].id ||= `${form.data("kind")}_problem`;
  input.attr({ "aria-invalid": "true", "aria-describedby": problem[0].id });
}

// Returns what the fields of a form hold, by name. Django gives a BooleanField's box no value, and the boxes of a
// field that holds a list one each.
function paramsOf(form) {
  const params = {};
  for (const field of form.elements) {
    const { name, type, value } = field;
    if (!name || name === "csrfmiddlewaretoken" || name === "livejobs_ref" || type === "file") continue;
    if (type === "select-multiple") params[name] = [...field.selectedOptions].map((option) => option.value);
    else if (type === "checkbox" && !field.hasAttribute("value")) params[name] = field.checked;
    else if (type === "checkbox") params[name] = [...(params[name] ?? []), ...(field.checked ? [value] : [])];
    else if (type !== "radio" || field.checked) params[name] = value;
  }
  return params;
}
