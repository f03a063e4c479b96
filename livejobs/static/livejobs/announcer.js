// One polite announcer for the page: what a screen reader says of the jobs, by their titles, at most once in 5 s.

const EVERY = 5000; // milliseconds
const MILESTONES = [75, 50, 25]; // percent

const HIDDEN = { position: "absolute", width: "1px", height: "1px", overflow: "hidden", clipPath: "inset(50%)" };

const said = new Map(); // task_id -> the last that was said of it: { state, attempt, percent, silent }
const waiting = new Map(); // task_id -> the sentence that is to be said
let region;
let timer;

// Notes how a job stands, and says so if that is worth it: it starts, reaches a quarter, begins again, is silent, or ends.
export function announce(job, words, { final, running, silent = false }) {
  const known = said.get(job.task_id);
  const reached = running ? (MILESTONES.find((one) => job.percent >= one) ?? 0) : (known?.reached ?? 0);
  const now = { state: final ? job.state : running ? "RUNNING" : job.state, attempt: job.attempt, reached, silent };
  said.set(job.task_id, now);
  if (!known) return say(job, final ? "" : running ? "running" : words); // what had ended before is not news
  if (now.state !== known.state || now.attempt !== known.attempt) say(job, words);
  else if (reached > known.reached) say(job, `${reached}%`);
  else if (silent && !known.silent) say(job, "no news");
}

function say(job, sentence) {
  if (!sentence) return;
  waiting.delete(job.task_id);
  waiting.set(job.task_id, `${job.title}: ${sentence}`);
  if (!timer) timer = setTimeout(speak, region ? EVERY : 500);
}

function speak() {
  timer = undefined;
  if (!region) {
    region = document.createElement("p");
    region.id = "announcer";
    region.setAttribute("role", "status");
    Object.assign(region.style, HIDDEN);
    document.body.append(region);
  }
  const sentences = [...waiting.values()];
  waiting.clear();
  const more = sentences.length - 3;
  region.textContent = sentences.slice(-3).join(" ") + (more > 0 ? ` And news of ${more} more jobs.` : "");
  timer = setTimeout(() => {
    timer = undefined;
    if (waiting.size) speak();
  }, EVERY);
}
