// One job's socket, ws/task_status/<task_id>/: followed to its end, however often the line breaks on the way. Where
// WebSockets are blocked, the same snapshots are asked for over HTTP.
import { config } from "./config.js";
import { read } from "./polling.js";
import { FINAL } from "./state.js";

const WAIT = 1000; // milliseconds
const ASK_EVERY = 2000;
const ENDED = 1000; // the server's close codes
const NOT_FOUND = 4404;
const UNAUTHORIZED = 4401;
const UNAUTHORIZED_TRIES = 3; // in a row: a log-in in another tab closes this socket before the browser has its cookie
const BLOCKED = 3; // tries in which no socket has ever opened

// onJob(snapshot), onEnd(found: boolean) when there is nothing more to come, onLink(open: boolean)
export function follow(taskId, { onJob, onEnd, onLink }, refused = 0, tries = 1) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}${config.sockets}task_status/${taskId}/`);
  let gone = false; // whether the job was deleted
  let live = false; // whether the site has accepted the session and answered
  socket.onopen = () => {
    tries = -Infinity; // it can be opened here
  };
  socket.onmessage = (event) => {
    if (!live) onLink(true);
    live = true;
    refused = 0;
    const frame = JSON.parse(event.data);
    if (frame.type === "gone") gone = true;
    else onJob(frame);
  };
  socket.onclose = ({ code }) => {
    refused += code === UNAUTHORIZED;
    if (code === ENDED || code === NOT_FOUND || refused === UNAUTHORIZED_TRIES) return onEnd(code === ENDED && !gone);
    if (tries >= BLOCKED && config.api) return look(taskId, { onJob, onEnd, onLink });
    onLink(false);
    // Not all at the same moment when the site comes back.
    setTimeout(follow, WAIT * (0.5 + Math.random()), taskId, { onJob, onEnd, onLink }, refused, tries + 1);
  };
}

async function look(taskId, { onJob, onEnd, onLink }) {
  try {
    const job = await read(taskId);
    onLink(true);
    if (job.type === "gone") return onEnd(false);
    onJob(job);
    if (FINAL.has(job.state)) return onEnd(true);
  } catch {
    onLink(false); // the next look tries again
  }
  setTimeout(look, ASK_EVERY, taskId, { onJob, onEnd, onLink });
}
