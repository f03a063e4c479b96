"""What is answered to a request that starts nothing and loses nothing: in an error frame, by the API, in a command."""

from typing import Any


class Refused(Exception):
    """A request that starts nothing and loses nothing.

    Args:
        code: the reason as one word, for programs.
        detail: the reason and the remedy as a sentence, for people.
        field: the name of the field that is wrong, if it is one field.
    """

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail, self.field = code, detail, field

    def as_frame(self, ref: Any = None, task_id: Any = None) -> dict[str, Any]:
        """Return the error frame that answers a request.

        Args:
            ref: of the start or the retry that it answers, if it is text.
            task_id: of the job that it is about, if it is text.
        """
        ref, task_id = (value if isinstance(value, str) else None for value in (ref, task_id))
        error = {"type": "error", "code": self.code, "detail": self.detail, "field": self.field}
        return {**error, "ref": ref, "task_id": task_id}


class NotSignedIn(Refused):
    """The session or the token of a request does not say its owner, or says another owner by now."""

    def __init__(self) -> None:
        super().__init__("signed_out", "Your session has ended, or has another owner by now. Load the page again.")
