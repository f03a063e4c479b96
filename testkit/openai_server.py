"""A server that speaks as much of OpenAI's Responses API as a search needs. It says what it is told to say."""

import contextlib
import json
import threading
from collections import deque
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

KEY = "sk-test-0123456789abcdef"
TEXT = (
    "Django 5.2 is a long-term support release. ([djangoproject.com](https://www.djangoproject.com/)) It came in April."
)
CITATION = {
    "type": "url_citation",
    "start_index": TEXT.index("(["),
    "end_index": TEXT.index(") It") + 1,
    "title": "Django <b>5.2</b>",
    "url": "https://www.djangoproject.com/",
}
SEARCHED = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}


def whole(text: str = TEXT, citations: tuple = (CITATION,), **changes) -> dict:
    """Return a whole response."""
    part = {"type": "output_text", "text": text, "annotations": list(citations)}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}
    response = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "a-model"}
    return {**response, "output": [SEARCHED, message], **changes}


def deltas(*texts: str) -> list[dict]:
    """Return the events that bring an answer piece by piece."""
    place = {"item_id": "msg_1", "output_index": 1, "content_index": 0, "logprobs": []}
    return [{"type": "response.output_text.delta", **place, "delta": text} for text in texts]


def completed(**changes) -> dict:
    """Return the event that brings the whole response."""
    return {"type": "response.completed", "response": whole(**changes)}


BEGUN = [
    {"type": "response.created", "response": whole(status="in_progress", output=[])},
    {"type": "response.output_item.added", "output_index": 0, "item": SEARCHED},
    {"type": "response.web_search_call.completed", "item_id": "ws_1", "output_index": 0},
]
GOOD = [*BEGUN, *deltas(TEXT[:20], TEXT[20:]), completed()]


class OpenAIServer(ThreadingHTTPServer):
    """Answers each request with the next of `answers`, and with the last one for ever.

    An answer is a list of events, in which a `threading.Event` is waited for; or (status, headers, body).
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: deque = deque([GOOD])
        self.requests: list[tuple[Message, dict]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def say(self, *answers):
        """Give these answers from now on."""
        self.answers = deque(answers)
        self.requests.clear()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.headers, {**body, "path": self.path}))
        answers = self.server.answers
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, list):
            self.start({"Content-Type": "text/event-stream"})
            for event in answer:
                self.event(event)
        else:
            status, headers, body = answer
            self.start(headers, status)
            self.wfile.write(body.encode())

    def start(self, headers, status=200):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def event(self, event):
        if isinstance(event, threading.Event):
            event.wait(60)
        elif isinstance(event, str):
            self.wfile.write(event.encode())
        else:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the client has gone, as it may
            super().handle()

    def log_message(self, *args):
        pass


def error(status: int, message: str = "No.", code: str | None = None, **headers: str) -> tuple:
    """Return an answer that is an error."""
    body = {"error": {"message": message, "type": "error", "code": code, "param": None}}
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body)


@pytest.fixture(scope="session")
def openai_process():
    """The server, in a thread."""
    server = OpenAIServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def openai_server(openai_process):
    """The server, saying what is good."""
    openai_process.say(GOOD)
    return openai_process
