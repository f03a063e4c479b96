// The socket of a page: what it does when it opens, breaks, is refused, is blocked, and falls silent.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { newPage, page } from "./page.mjs";

newPage();
const { JobSocket } = await import("../../livejobs/static/livejobs/socket.js");

const PING = { type: "ping" };
const job = (fields) => ({ type: "job", task_id: "a", ref: "r", state: "PROGRESS", seq: 1, attempt: 1, ...fields });
let told;
let socket;

function opened() {
  page.sockets.at(-1).opens();
  page.sockets.at(-1).tells({ type: "pong" });
  return page.sockets.at(-1);
}

beforeEach(() => {
  newPage();
  told = [];
  socket = new JobSocket({
    onJob: (one) => told.push(`${one.state} ${one.seq}`),
    onGone: (id) => told.push(`gone ${id}`),
    onError: (error) => told.push(error.code),
  });
});

test("it is live once the server has answered, not when it is open", () => {
  page.sockets[0].opens();
  assert.deepEqual(page.sockets[0].sent, [PING]);
  assert.equal(page.link, "");
  page.sockets[0].tells({ type: "pong" });
  assert.equal(page.link, "live");
});

test("a socket that does not open within 10 s is given up, and the next one is tried", async () => {
  await page.pass(9.9);
  assert.equal(page.sockets.length, 1);
  await page.pass(0.7);
  assert.equal(page.sockets.length, 2);
});

test("after a break it waits longer each time, 5 s at most, and begins anew once it was live", async () => {
  opened().closes();
  assert.equal(page.link, "reconnecting…");
  for (const wait of [0.5, 1, 2, 4, 5, 5]) {
    const before = page.sockets.length;
    await page.pass(wait - 0.01);
    assert.equal(page.sockets.length, before);
    await page.pass(0.01);
    assert.equal(page.sockets.length, before + 1);
    page.sockets.at(-1).closes();
  }
  await page.pass(5);
  opened().closes();
  await page.pass(0.5);
  assert.equal(page.sockets.at(-1).readyState, 0);
});

test("what was not answered is sent again with the same ref, and what was answered is not", async () => {
  const first = opened();
  const [kept, answered] = [socket.start("count", { below: 1 }), socket.start("count", { below: 2 })];
  first.tells(job({ ref: answered }));
  first.closes();
  await page.pass(0.5);
  const again = opened().sent.filter((frame) => frame.type === "start");
  assert.deepEqual(again, [{ type: "start", kind: "count", params: { below: 1 }, ref: kept }]);
});

test("a press while the line is away is sent when it is back, unless it was taken back", async () => {
  opened().closes();
  const [sent, forgotten] = [socket.start("count", {}), socket.start("count", {})];
  socket.forget(forgotten);
  await page.pass(0.5);
  assert.deepEqual(
    opened().sent.map((frame) => frame.ref),
    [undefined, sent],
  );
});

test("a cancel is said again until the job is cancelling or has ended", async () => {
  const first = opened();
  socket.cancel("a");
  first.closes();
  await page.pass(0.5);
  const second = opened();
  assert.ok(second.sent.some((frame) => frame.type === "cancel" && frame.task_id === "a"));
  second.tells(job({ cancelling: true }));
  second.closes();
  await page.pass(0.5);
  assert.ok(!opened().sent.some((frame) => frame.type === "cancel"));
});

test("an older snapshot and one after the end are dropped", () => {
  const line = opened();
  for (const [state, seq] of [
    ["PROGRESS", 5],
    ["PROGRESS", 4],
    ["SUCCESS", 9],
    ["PROGRESS", 12],
  ]) {
    line.tells(job({ state, seq }));
  }
  assert.deepEqual(told, ["PROGRESS 5", "SUCCESS 9"]);
});

test("a job that was deleted is told, and may be told of anew", () => {
  const line = opened();
  line.tells(job({ state: "SUCCESS", seq: 9 }));
  line.tells({ type: "gone", task_id: "a" });
  line.tells(job({ seq: 1 }));
  assert.deepEqual(told, ["SUCCESS 9", "gone a", "PROGRESS 1"]);
});

test("while a job runs, silence of 4 s is a ping, and 3 s without its answer are a break", async () => {
  const line = opened();
  line.tells(job());
  await page.pass(3.9);
  assert.deepEqual(line.sent, [PING]);
  await page.pass(0.1);
  assert.deepEqual(line.sent, [PING, PING]);
  await page.pass(2.9);
  assert.equal(page.link, "live");
  await page.pass(0.1);
  assert.equal(page.link, "reconnecting…");
});

test("without a job that runs it pings every 20 s", async () => {
  const line = opened();
  await page.pass(19.9);
  assert.equal(line.sent.length, 1);
  await page.pass(0.1);
  assert.equal(line.sent.length, 2);
});

test("the loss of the network is said at once, and its return is a try at once", async () => {
  opened();
  navigator.onLine = false;
  page.fire("offline");
  assert.equal(page.link, "offline");
  navigator.onLine = true;
  page.fire("online");
  assert.equal(page.sockets.length, 2);
});

test("a session that is refused three times in a row loads the page again, once", async () => {
  for (let tries = 0; tries < 3; tries++) {
    assert.equal(page.loads, 0);
    page.sockets.at(-1).opens();
    page.sockets.at(-1).closes(4401);
    if (tries < 2) await page.pass(5);
  }
  assert.equal(page.loads, 1);
});

test("a network on which no socket ever opens is asked over HTTP, and a socket that opens ends that", async () => {
  page.answers["/api/jobs/"] = { results: [job({ state: "PROGRESS", seq: 3 })] };
  page.answers["/api/jobs/a/"] = job({ state: "SUCCESS", seq: 9 });
  for (let tries = 0; tries < 3; tries++) {
    page.sockets.at(-1).closes();
    if (tries < 2) await page.pass(2);
  }
  await page.pass(0.1);
  assert.match(page.link, /^WebSockets are blocked here/);
  await page.pass(2.1);
  assert.deepEqual(told, ["PROGRESS 3", "SUCCESS 9"]);
  const asked = page.asked.length;
  await page.pass(5); // the next try
  opened();
  assert.equal(page.link, "live");
  await page.pass(10);
  assert.ok(page.asked.length <= asked + 3, "it is not asked over HTTP any more");
});

test("a frame that is too long is answered here, in words, and never sent", async () => {
  const line = opened();
  socket.start("search", { query: "ж".repeat(20_000) });
  await page.pass(0);
  assert.deepEqual(told, ["frame_too_large"]);
  assert.deepEqual(line.sent, [PING]);
});

test("a job that ended while the line was away is asked for once the line is back", async () => {
  const first = opened();
  first.tells(job());
  first.closes();
  page.answers["/api/jobs/a/"] = job({ state: "SUCCESS", seq: 9 });
  await page.pass(0.5);
  opened();
  await page.pass(2);
  assert.deepEqual(told, ["PROGRESS 1", "SUCCESS 9"]);
});
