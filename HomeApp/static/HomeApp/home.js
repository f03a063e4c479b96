// START: each press starts a job of its own, and each job has a bar of its own.
import $ from "./jquery.js";
import { animate, complain, draw } from "./bar.js";
import { JobSocket } from "./socket.js";

const pressed = new Map(); // ref -> the form it was started from, until the server has answered

const socket = new JobSocket({
  onJob: (job) => {
    pressed.delete(job.ref);
    draw(job);
  },
  onError: (error) => {
    if (complain(error)) return;
    const form = pressed.get(error.ref) ?? $("form.start").first();
    pressed.delete(error.ref);
    form.find(".problem").text(error.detail);
    if (error.field) form.find(`[name="${CSS.escape(error.field)}"]`).attr("aria-invalid", "true");
  },
});
animate(socket);

$("form.start").on("submit", (event) => {
  event.preventDefault();
  const form = $(event.currentTarget);
  form.find(".problem").text("");
  form.find("[aria-invalid]").removeAttr("aria-invalid");
  const params = Object.fromEntries(new FormData(form[0]));
  pressed.set(socket.start(form.data("kind"), params), form);
});
