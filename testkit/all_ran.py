"""A pytest plugin: every test that was collected has run, or the run fails.

pytest-xdist's `loadscope` and `loadfile` schedulers keep tests by their node id, so of several tests with one id they
run one. Hence ids are counted: an id that was collected nine times must be reported nine times.
"""

from collections import Counter
from collections.abc import Generator, Iterable

import pytest

LOST = "Tests with this id: {} were collected, {} ran."


class AllRan:
    """Compares what was collected with what was reported; with pytest-xdist, in its controller."""

    def __init__(self) -> None:
        self.collected: Counter[str] = Counter()
        self.reported: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what this process has collected; the controller of pytest-xdist collects nothing itself."""
        self._note(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        """Note what a process of pytest-xdist has collected: each of them collects all tests."""
        self._note(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what has run: each test reports one teardown, however it went."""
        if report.when == "teardown":
            self.reported[report.nodeid] += 1

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Report each lost test as failed. A run that was interrupted does not come this far."""
        result = yield
        if not session.config.option.collectonly:
            for nodeid, missing in (self.collected - self.reported).items():
                ran = self.reported[nodeid]
                for _ in range(missing):
                    session.config.hook.pytest_runtest_logreport(report=_lost(nodeid, LOST.format(ran + missing, ran)))
        return result

    def _note(self, ids: Iterable[str]) -> None:
        self.collected |= Counter(ids)


def _lost(nodeid: str, problem: str) -> pytest.TestReport:
    return pytest.TestReport(nodeid, (nodeid, None, nodeid), {}, "failed", problem, "call")


def register(config: pytest.Config) -> None:
    """Use the plugin in this run, unless this is a process of pytest-xdist: what it reports, its controller counts."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(AllRan())
