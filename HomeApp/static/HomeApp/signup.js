// Signing up: the form goes to the API, and the job that it starts is followed to its end.
import $ from "../livejobs/jquery.js";
import { ask } from "../livejobs/api.js";
import { draw } from "../livejobs/bars.js";
import { follow } from "../livejobs/task_status.js";

const form = $("#signup");
const button = form.find("button");
const outcome = $(".outcome");
const label = button.text();

const WORDS = {
  SUCCESS: "Success. A welcome e-mail is on its way to you. You can log in now.",
  FAILURE: "You are signed up and can log in, but the welcome e-mail could not be sent.",
  REVOKED: "You are signed up and can log in. The welcome e-mail was cancelled.",
};
const SIGNED_UP = "You are signed up. Your welcome e-mail is being sent.";
const WAITING = "You are signed up. The site cannot be reached at the moment; this page tries again by itself.";
const GONE = "You are signed up and can log in. This page can no longer tell what became of the welcome e-mail.";
const UNREACHABLE = "The site could not be reached. Nothing is lost: press the button again in a moment.";
const UNREADABLE = "The site gave an answer that this page does not understand. Press the button again in a moment.";

function busy(yes) {
  button.prop("disabled", yes).text(yes ? "Processing…" : label);
}

function clear() {
  form.find(".problem").text("");
  form.find("[aria-invalid]").removeAttr("aria-invalid");
  outcome.text("");
}

// Each field's problems at the field; what belongs to none, below the button.
function show(problem) {
  const fields = Object.entries(problem.fields ?? {});
  for (const [name, sentences] of fields) {
    form.find(`.problem[data-field="${CSS.escape(name)}"]`).text(sentences.join(" "));
    form.find(`[name="${CSS.escape(name)}"]`).attr("aria-invalid", "true");
  }
  if (!fields.length) form.find('.problem[data-field=""]').text(problem.detail ?? UNREADABLE);
  form.find("[aria-invalid]").first().trigger("focus");
}

function watch(taskId) {
  let state = null;
  follow(taskId, {
    onLink: (open) => outcome.text(open ? SIGNED_UP : WAITING),
    onJob: (job) => {
      state = job.state;
      $("#jobs").prop("hidden", false);
      draw(job);
    },
    onEnd: (found) => {
      outcome.text(found ? WORDS[state] : GONE);
      form.trigger("reset");
      busy(false);
    },
  });
}

form.on("submit", async (event) => {
  event.preventDefault();
  clear();
  busy(true);
  const body = Object.fromEntries(new FormData(form[0]));
  const { ok, said } = await ask(form.attr("action"), { method: "POST", body }).catch(() => ({
    said: { detail: UNREACHABLE },
  }));
  if (ok && said.task_id) {
    watch(said.task_id);
  } else {
    show(said);
    busy(false);
  }
});

busy(false);
