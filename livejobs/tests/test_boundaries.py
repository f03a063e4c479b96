"""The engine knows no project: neither the site beside it, nor the tools of the tests."""

import ast
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[1]
#: Top-level packages of this repository that the engine must not import.
OTHERS = {"HomeApp", "CeleryProgressbar", "benchmarks", "testkit", "tests"}
#: Names that Django and Python document in spite of the underscore.
DOCUMENTED = {"_meta", "_default_manager", "_replace"}
MODULES = sorted(
    str(path.relative_to(ENGINE)) for path in ENGINE.rglob("*.py") if "tests" not in path.relative_to(ENGINE).parts
)


def imported(source: str) -> set[str]:
    """Return the top-level packages that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_the_engine_imports_nothing_of_the_site(module):
    assert not imported((ENGINE / module).read_text()) & OTHERS


def private(source: str) -> set[str]:
    """Return the private names that a module uses and does not define itself."""
    tree = ast.parse(source)
    own = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {name for name in used - own if name.startswith("_") and not name.startswith("__")}


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith(("under/", "migrations/"))])
def test_only_under_touches_the_insides_of_another_library(module):
    assert private((ENGINE / module).read_text()) <= DOCUMENTED


def test_a_private_name_is_found_wherever_it_stands():
    source = "from a import _b\ndef _own(): pass\nself._own()\nrequest._request.user\nx.__class__"
    assert private(source) == {"_b", "_request"}


def test_an_import_is_found_wherever_it_stands():
    assert imported("def f():\n    from HomeApp.models import User\nimport a.b, c\n") == {"HomeApp", "a", "c"}
