"""Makes docs/animation.png: START, a reload, the worker killed, attempt 2, done. `python -m docs.make_animation`.

It needs Chromium and Pillow (`pip install pillow`). Waits in which only the clock moves are cut short.
"""

import io
import itertools
import os
import re
import signal
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from testkit.processes import Site
from testkit.services import CHROMIUM

TARGET = Path(__file__).parent / "animation.png"
SIZE = {"width": 1040, "height": 330}
#: Seconds between two pictures while it is made, and milliseconds for which each is shown: three times as fast.
EVERY, SHOWN = 0.3, 100
LAST = 3000
COLOURS = 32
BELOW = 12_000_000


class Film:
    """The pictures of a page so far."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []

    def shoot(self, until: str, limit: int = 400) -> None:
        """Take pictures until the list of jobs has such a text.

        Args:
            until: a regular expression.
            limit: how many pictures at most.
        """
        for _ in range(limit):
            found = re.search(until, self.page.inner_text("#jobs"))
            self.pictures.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
            if found:
                return
            self.page.wait_for_timeout(1000 * EVERY)
        raise TimeoutError(f"The bar has not said {until!r}.")

    def save(self, path: Path) -> None:
        """Write an animated PNG of few colours, without the pictures that are the same as the one before."""
        palette = self.pictures[len(self.pictures) // 2].quantize(COLOURS)
        drawn = [one.quantize(palette=palette, dither=Image.Dither.NONE) for one in self.pictures]
        kept = drawn[:1] + [one for before, one in itertools.pairwise(drawn) if one != before]
        shown = [SHOWN] * (len(kept) - 1) + [LAST]
        kept[0].save(path, save_all=True, append_images=kept[1:], duration=shown, loop=0, optimize=True)


def main() -> None:
    """Play it, and write the pictures down."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Site(Path(folder))
        try:
            host, worker = site.web(), site.worker(1)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport=SIZE)
            page.goto(f"http://{host}/")
            page.fill("[name=below]", str(BELOW))
            film = Film(page)
            film.shoot("Press START")
            page.click("#button_startAction")
            film.shoot(r"\b[2-9]\d%")
            page.reload()
            film.shoot(r"\b[4-9]\d%")
            os.killpg(worker.pid, signal.SIGKILL)
            site.processes.remove(worker)
            film.shoot("lost")
            site.worker(1)
            film.shoot("attempt 2")
            film.shoot("Done")
            film.save(TARGET)
            browser.close()
        finally:
            site.kill_all()


if __name__ == "__main__":
    main()
