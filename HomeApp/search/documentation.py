"""The documentation of Python's own library, as the installed Python holds it: in docstrings.

Modules in Python are read from disk without importing them. A few are written in C and have no text to read: those
are imported, which does nothing else. The pages that links lead to are those of docs.python.org.
"""

import ast
import builtins
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

#: Tests, programs, and insides that docs.python.org does not speak of.
LEFT_OUT = frozenset(
    "antigravity distutils encodings ensurepip genericpath idlelib lib2to3 ntpath nturl2path opcode pydoc_data "  # noqa: SIM905
    "sre_compile sre_constants sre_parse test this turtledemo".split()
)
#: Modules written in C -> the name they are documented under.
IN_C = {
    name: name
    for name in "array atexit binascii builtins cmath errno faulthandler gc itertools marshal math mmap select sys "  # noqa: SIM905
    "time unicodedata zlib".split()
} | {
    "posix": "os",
    "_codecs": "codecs",
    "_collections": "collections",
    "_contextvars": "contextvars",
    "_csv": "csv",
    "_functools": "functools",
    "_hashlib": "hashlib",
    "_io": "io",
    "_operator": "operator",
    "_socket": "socket",
    "_sqlite3": "sqlite3",
    "_ssl": "ssl",
    "_struct": "struct",
    "_thread": "threading",
}
#: Modules that are documented under another name; `_pydecimal` is the `decimal` that one can read.
OTHER_NAMES = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
    "pathlib._local": "pathlib",  # Python 3.13
    "posixpath": "os.path",
}
#: Packages that are documented as one: what `json.decoder` defines is `json`'s.
AS_ONE = ("asyncio", "concurrent.futures", "json", "sqlite3", "unittest")
#: Modules in packages that have a page of their own; the others are on the page of their package.
OWN_PAGES = frozenset(
    "collections.abc concurrent.futures curses.ascii curses.panel email.charset email.contentmanager email.encoders "  # noqa: SIM905
    "email.errors email.generator email.header email.headerregistry email.iterators email.message email.mime "
    "email.parser email.policy email.utils html.entities html.parser http.client http.cookiejar http.cookies "
    "http.server importlib.metadata importlib.resources importlib.resources.abc logging.config logging.handlers "
    "multiprocessing.shared_memory os.path tkinter.colorchooser tkinter.dnd tkinter.font tkinter.messagebox "
    "tkinter.scrolledtext tkinter.ttk unittest.mock urllib.error urllib.parse urllib.request urllib.robotparser "
    "xml.dom xml.dom.minidom xml.dom.pulldom xml.etree.ElementTree xml.sax xml.sax.handler xmlrpc.client "
    "xmlrpc.server".split()
)
#: Modules whose page has a name of its own.
PAGES = {
    "asyncio.base_events": "asyncio-eventloop",
    "asyncio.events": "asyncio-eventloop",
    "asyncio.exceptions": "asyncio-exceptions",
    "asyncio.futures": "asyncio-future",
    "asyncio.locks": "asyncio-sync",
    "asyncio.protocols": "asyncio-protocol",
    "asyncio.queues": "asyncio-queue",
    "asyncio.runners": "asyncio-runner",
    "asyncio.streams": "asyncio-stream",
    "asyncio.subprocess": "asyncio-subprocess",
    "asyncio.taskgroups": "asyncio-task",
    "asyncio.tasks": "asyncio-task",
    "asyncio.threads": "asyncio-task",
    "asyncio.timeouts": "asyncio-task",
    "asyncio.transports": "asyncio-protocol",
    "tkinter.filedialog": "dialog",
    "tkinter.simpledialog": "dialog",
    "xml.parsers.expat": "pyexpat",
    "xml.sax.saxutils": "xml.sax.utils",
    "xml.sax.xmlreader": "xml.sax.reader",
}
SITE = "https://docs.python.org/{}.{}/library/".format(*sys.version_info)


class Entry(NamedTuple):
    """What the documentation says of one module, class or function."""

    name: str  #: with all its dots
    content: str
    url: str


class Source(NamedTuple):
    """Where one module can be read."""

    module: str
    path: Path | None  #: None where it is written in C


def sources() -> list[Source]:
    """Return every module of the library that is documented, wherever it can be read on this machine."""
    library = Path(sysconfig.get_path("stdlib"))
    found = [Source(module, None) for module in IN_C]
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        for path in (library / f"{name}.py", *sorted((library / name).rglob("*.py"))):
            module = _module(path.relative_to(library).with_suffix("").parts)
            if module and path.is_file():
                found.append(Source(module, path))
    return found


def entries(source: Source) -> Iterator[Entry]:
    """Yield what the documentation says of a module and of each public class, method and function in it."""
    if source.path is None:
        try:
            yield from _of_module(importlib.import_module(source.module), IN_C[source.module])
        except ImportError:
            return  # this Python is built without it
    else:
        yield from _of_tree(ast.parse(source.path.read_bytes()), source.module)


def _module(parts: tuple[str, ...]) -> str:
    """Return the name that the module in a file is documented under; nothing for an inside of the library."""
    name = ".".join(parts).removesuffix(".__init__")
    name = OTHER_NAMES.get(name, name)
    inside = any(part.startswith("_") or part in ("test", "tests") for part in name.split("."))
    return "" if inside and name != "__future__" else name


def _of_tree(tree: ast.Module, module: str) -> Iterator[Entry]:
    if text := ast.get_docstring(tree):
        yield _entry(module, "", text)
    yield from _of_body(tree, module, "")


def _of_body(node: ast.AST, module: str, inside: str) -> Iterator[Entry]:
    """Yield the definitions below a node: also those that stand in an `if` or `try`, not those inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if child.name.startswith("_"):
                continue
            name = f"{inside}{child.name}"
            if text := ast.get_docstring(child) or _of_init(child):
                yield _entry(module, name, text)
            if isinstance(child, ast.ClassDef):
                yield from _of_body(child, module, f"{name}.")
        elif isinstance(child, ast.stmt | ast.excepthandler):
            yield from _of_body(child, module, inside)


def _of_init(definition: ast.AST) -> str:
    """Return what a class says at its `__init__`, for want of anything at its head."""
    methods = getattr(definition, "body", []) if isinstance(definition, ast.ClassDef) else []
    inits = (one for one in methods if isinstance(one, ast.FunctionDef) and one.name == "__init__")
    return next((ast.get_docstring(init) or "" for init in inits), "")


def _of_module(imported: ModuleType, module: str) -> Iterator[Entry]:
    if imported.__name__ == module and (text := inspect.getdoc(imported)):
        yield _entry(module, "", text)
    for name, value in _public(imported):
        yield _entry(module, name, inspect.getdoc(value) or "")
        if inspect.isclass(value):
            for method, function in _public(value):
                yield _entry(module, f"{name}.{method}", inspect.getdoc(function) or "")


def _public(thing: Any) -> list[tuple[str, Any]]:
    members = sorted((name, value) for name, value in vars(thing).items() if not name.startswith("_"))
    return [
        (name, value)
        for name, value in members
        if (callable(value) or inspect.isdatadescriptor(value)) and value.__doc__
    ]


def _entry(module: str, name: str, text: str) -> Entry:
    page = f"{SITE}{_page(module, name)}.html"
    for package in AS_ONE:
        if module.startswith(f"{package}.") and module not in OWN_PAGES:
            module = package if name else module
    if module == "builtins" and name:
        return Entry(name, text, f"{page}#{name}")
    full = f"{module}.{name}" if name else module
    return Entry(full, text, f"{page}#{full}" if name else f"{page}#module-{full}")


def _page(module: str, name: str) -> str:
    """Return the page of docs.python.org that speaks of a name in a module, without its suffix."""
    if module == "builtins" and name:
        return _builtin_page(name.partition(".")[0])
    while module not in PAGES and module not in OWN_PAGES and "." in module:
        module = module.rpartition(".")[0]
    return PAGES.get(module, module.lower())


def _builtin_page(name: str) -> str:
    value = getattr(builtins, name)
    if inspect.isclass(value) and issubclass(value, BaseException):
        return "exceptions"
    types = (bytearray, bytes, complex, dict, float, frozenset, int, list, memoryview, range, set, str, tuple)
    return "stdtypes" if value in types else "functions"
