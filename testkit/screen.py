"""A terminal that is not there."""

import io


class Screen(io.StringIO):
    """A terminal, and what is on it.

    Args:
        encoding: of the terminal.
    """

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self.codec = encoding

    @property
    def encoding(self):
        return self.codec

    def isatty(self):
        return True

    @property
    def drawn(self) -> list[str]:
        """Every state of the current line so far."""
        return [text.strip() for text in self.getvalue().split("\r")[1:]]
