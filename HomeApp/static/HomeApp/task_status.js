// One job's socket, ws/task_status/<task_id>/: followed to its end, however often the line breaks on the way.
const WAIT = 1000; // milliseconds
const ENDED = 1000; // the server's close codes
const NOT_FOUND = 4404;

// onJob(snapshot), onEnd(found: boolean) when there is nothing more to come, onLink(open: boolean)
export function follow(taskId, { onJob, onEnd, onLink }) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/ws/task_status/${taskId}/`);
  socket.onopen = () => onLink(true);
  socket.onmessage = (event) => onJob(JSON.parse(event.data));
  socket.onclose = ({ code }) => {
    if (code === ENDED || code === NOT_FOUND) return onEnd(code === ENDED);
    onLink(false);
    // Not all at the same moment when the site comes back.
    setTimeout(follow, WAIT * (0.5 + Math.random()), taskId, { onJob, onEnd, onLink });
  };
}
