"""SHA-256 checksums of the files in a zip archive, in parts that several workers can do beside each other."""

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

#: What an archive may hold: files, and bytes in all once they are unpacked.
MOST_FILES, MOST_BYTES = 10_000, 2 * 2**30
#: Files, and bytes, of one part, at most; but one file at least. A part's checksums fit into its checkpoint.
PART_FILES, PART_BYTES = 50, 16 * 2**20
#: Characters of a file's name.
LONGEST_NAME = 1000
#: Before the checksum of a file whose name has a backslash or a line break. Source: GNU coreutils, "md5sum invocation".
BACKSLASH = "\\"
#: Bytes that are read at once.
PIECE = 2**20

NO_ZIP = "This is no zip file."
EMPTY = "This zip file has no files in it."
TOO_MANY = f"A zip file may hold at most {MOST_FILES:,} files."
TOO_LARGE = f"A zip file may hold at most {MOST_BYTES // 2**30} GiB once it is unpacked."
LONG_NAME = f"A name in this zip file is longer than {LONGEST_NAME:,} characters."
ENCRYPTED = "The files in this zip file are encrypted."
BROKEN = "{} cannot be read: the zip file is damaged."


class BadArchive(Exception):
    """The archive cannot be read; the text says why, for the visitor."""


def check(archive: IO[bytes]) -> None:
    """Check the directory of an archive, before anything is unpacked.

    Args:
        archive: the file.

    Raises:
        BadArchive: it is no zip file, or holds nothing, or more than is allowed.
    """
    files = _files(archive)
    if not files:
        raise BadArchive(EMPTY)
    if len(files) > MOST_FILES:
        raise BadArchive(TOO_MANY)
    if sum(file.file_size for file in files) > MOST_BYTES:
        raise BadArchive(TOO_LARGE)
    if any(len(file.filename) > LONGEST_NAME for file in files):
        raise BadArchive(LONG_NAME)
    if any(file.flag_bits & 1 for file in files):
        raise BadArchive(ENCRYPTED)


def parts(archive: IO[bytes], track: Callable[[list[Any]], Iterable[Any]]) -> list[tuple[int, int, int]]:
    """Divide an archive into parts.

    Args:
        archive: the file.
        track: goes through a list, and reports how far it has come.

    Returns:
        Of each part the number of its first file, the number of files, and their bytes.
    """
    divided: list[tuple[int, int, int]] = []
    for number, file in enumerate(track(_files(archive))):
        first, count, size = divided[-1] if divided else (0, 0, 0)
        if divided and count < PART_FILES and size + file.file_size <= PART_BYTES:
            divided[-1] = first, count + 1, size + file.file_size
        else:
            divided.append((number, 1, file.file_size))
    return divided


def checksums(
    archive: IO[bytes], first: int, count: int, track: Callable[[list[Any]], Iterable[Any]]
) -> Iterator[tuple[str, str]]:
    """Yield the name and the checksum of each file of a part.

    Args:
        archive: the file.
        first: the number of the part's first file.
        count: how many files the part has.
        track: goes through a list, and reports how far it has come.

    Raises:
        BadArchive: a file in it is damaged.
    """
    with zipfile.ZipFile(archive) as opened:
        for file in track(_files(archive)[first : first + count]):
            digest = hashlib.sha256()
            try:
                with opened.open(file) as unpacked:
                    while piece := unpacked.read(PIECE):
                        digest.update(piece)
            except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as problem:
                raise BadArchive(BROKEN.format(file.filename)) from problem
            yield file.filename, digest.hexdigest()


def write(path: Path, of_parts: Iterable[dict[str, str]]) -> int:
    """Write checksums as `sha256sum -c` reads them. Returns how many there are.

    Args:
        path: of the file.
        of_parts: the checksums of each part by the files' names.
    """
    count = 0
    with path.open("w", encoding="utf-8") as lines:
        for part in of_parts:
            for name, digest in part.items():
                escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
                lines.write(f"{'' if escaped == name else BACKSLASH}{digest}  {escaped}\n")
            count += len(part)
    return count


def _files(archive: IO[bytes]) -> list[zipfile.ZipInfo]:
    try:
        return [file for file in zipfile.ZipFile(archive).infolist() if not file.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError) as problem:
        raise BadArchive(NO_ZIP) from problem
