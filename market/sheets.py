"""A table as text, from a file that nobody vouches for: CSV (also gzipped) and XLSX.

A table is read twice.  `open_table` surveys it: what kind of file, which encoding, the header, how many lines, how
large when unpacked; whatever makes it unreadable is refused there, before anything is built from it.  `blocks` then
gives the rows in pieces of bounded size, each cell as the file has it.  Rows count from 1, the header is row 0.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, NoReturn, Protocol

import fastexcel
import polars as pl

from market.errors import BadInput, Fault
from market.mappings import normal

MOST_ROWS = 2_000_000
MOST_COLUMNS = 512
MOST_NAME_CHARACTERS = 128
MOST_RECORD_BYTES = 1024 * 1024
MOST_UNPACKED_BYTES = 2 * 1024**3
MOST_RATIO = 200  # of unpacked to packed size, once FREE_BYTES are passed: real tapes stay below 40
FREE_BYTES = 32 * 1024**2
PIECE_BYTES = 8 * 1024**2
MOST_WORKBOOK_BYTES = 256 * 1024**2  # a workbook, unpacked
MOST_WORKBOOK_CELLS = 12_000_000
MOST_ENTRIES = 1_000
SAMPLES = 3
SEPARATORS = ",;\t|"
MOST_FILE_FAULTS = 1_000  # of one block's form; the rest of the block has the same trouble

_CONTROLS = bytes(c for c in range(32) if c != 10) + b"\x7f"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@dataclass(slots=True)
class Block:
    """Some rows of a table, as text."""

    frame: pl.DataFrame  # "row", then c0, c1 ... as the header has them; an empty cell is null
    is_plain: bool  # no control character and nothing but ASCII in it
    faults: list[Fault] = field(default_factory=list)  # rows without the right number of cells; they are not in `frame`
    odd: list[tuple[int, list[str]]] = field(default_factory=list)  # those rows


class Table(Protocol):
    """A table whose form was found good; `header` as the file has it."""

    header: list[str]
    rows: int  # as many as there are, or a few more (line breaks inside cells)
    is_workbook: bool
    encoding: str
    samples: list[list[str]]  # of the first rows

    def blocks(self) -> Iterator[Block]:
        """The rows from the first on; every call begins anew.

        Raises: BadInput, for a quote that is not closed or stands inside a cell: nothing after it can be read.
        """


def open_table(stream: IO[bytes]) -> Table:
    """Survey a file by its content, whatever its name says.

    Args:
        stream: seekable, from its first byte on.
    Raises: BadInput with one fault or several: `empty`, `not_a_table`, `encoding`, `too_large`, `too_many_rows`,
        `too_many_columns`, `record_too_long`, `no_rows`, `header_...`, `archive_...`, `macros`, `outside_links`,
        `formula`, `several_sheets`, `sheet_form`, `cell_error`.
    """
    head = stream.read(8)
    stream.seek(0)
    if not head:
        _refuse("empty", "", "no bytes", "a table with a header and rows")
    if head.startswith(b"PK"):
        return _Workbook(stream)
    return _Text(stream, is_packed=head.startswith(b"\x1f\x8b"))


def safe_cell(text: str) -> str:
    """A cell for a file that a spreadsheet opens: what would be a formula gets an apostrophe (promises.md, 7)."""
    if text and text[0] in "=+-@\t\r＝＋－＠" and not re.fullmatch(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?", text, re.ASCII):
        return "'" + text
    return text


def _refuse(code: str, field: str, found: str, expected: str, row: int | None = None) -> NoReturn:
    raise BadInput([Fault(code, field, found[:200], expected, row)])


# First bytes of files that are sent by mistake.
_KINDS = (
    (b"\x89PNG\r\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF8", "GIF"), (b"%PDF", "PDF"), (b"PAR1", "Parquet"),
    (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"Rar!", "RAR"), (b"7z\xbc\xaf", "7-Zip"),
    (b"\xd0\xcf\x11\xe0", "XLS, DOC"), (b"SQLite format 3", "SQLite"),
)  # fmt: skip


def _kind_of(head: bytes) -> str:
    """What a file is that is no table, in words: its bytes say nothing to a person."""
    kind = next((name for first, name in _KINDS if head.startswith(first)), "")
    return f"a file of another kind ({kind})" if kind else "a file of another kind"


# --- text ----------------------------------------------------------------------------------------


class _Text:
    """CSV: comma, semicolon, tab or bar; UTF-8 or GB18030; plain or gzipped."""

    is_workbook = False

    def __init__(self, stream: IO[bytes], *, is_packed: bool) -> None:
        self._stream, self._is_packed = stream, is_packed
        self._size = stream.seek(0, io.SEEK_END)
        self.encoding, lines = self._survey()
        first = self._first_record()
        self.separator = max(SEPARATORS, key=lambda one: (first.count(one), -SEPARATORS.index(one)))
        try:
            self.header = next(csv.reader(io.StringIO(first, newline=""), delimiter=self.separator, strict=True))
        except (csv.Error, StopIteration):
            _refuse("header_quotes", "", first[:80], "quotes that open and close around a name", 0)
        _check_header(self.header)
        self._controls = _CONTROLS.replace(self.separator.encode(), b"")
        self.rows = max(lines - 1, 0)
        self.samples = self._samples()
        if not self.samples:
            _refuse("no_rows", "", "a header and nothing more", "at least one row")

    def blocks(self) -> Iterator[Block]:
        waiting = b""
        row = 0  # of the header
        texts = self._texts()
        is_last = False
        while not is_last:
            piece = next(texts, b"")
            is_last = not piece
            waiting += piece
            if is_last:
                waiting = waiting.rstrip(b"\r\n") + b"\n" if waiting.strip(b"\r\n") else b""
            cut = _record_end(waiting)
            if cut and not is_last:  # line ends at the end of the file are no rows; whether this is it, shows later
                stop = len(waiting[:cut].rstrip(b"\r\n"))
                cut = waiting.find(b"\n", stop) + 1 if stop else 0
                if not cut:
                    continue
            if not cut and ((is_last and waiting) or len(waiting) > MOST_RECORD_BYTES + PIECE_BYTES):
                _refuse(
                    "quote_open",
                    "",
                    _place_of_quote(waiting),
                    "a quote that is closed",
                    self._row_of_quote(waiting, row),
                )
            if not cut:
                continue
            data, waiting = waiting[:cut], waiting[cut:]
            if row == 0:
                end = _record_end(data, first=True)
                data, row = data[end:], 1
                if not data:
                    continue
            block, row = self._block(data, row)
            yield block

    def _block(self, data: bytes, row: int) -> tuple[Block, int]:
        """The rows of `data`, whole lines; `row` is the number of its first; with it, the number after its last."""
        data = data.replace(b"\r\n", b"\n")
        width, separator = len(self.header), self.separator
        is_plain = data.isascii() and len(data.translate(None, self._controls)) == len(data)
        lines = data.count(b"\n")
        if b'"' not in data and data.count(separator.encode()) == lines * (width - 1):
            try:
                frame = pl.read_csv(
                    data,
                    has_header=False,
                    separator=separator,
                    quote_char=None,
                    infer_schema=False,
                    new_columns=[f"c{i}" for i in range(width)],
                )
            except pl.exceptions.ComputeError:
                frame = None  # a row has too many cells, and another too few
            if frame is not None and frame.height == lines and frame.width == width:
                numbered = frame.with_columns(pl.int_range(row, row + lines, dtype=pl.Int64).alias("row"))
                return self._without_header(Block(numbered, is_plain)), row + lines
        return self._slow_block(data, row, is_plain and b'"' not in data)

    def _slow_block(self, data: bytes, row: int, is_plain: bool) -> tuple[Block, int]:
        """The same with Python's strict reader, which knows quotes and counts the cells of each row."""
        width = len(self.header)
        numbers: list[int] = []
        rows: list[list[str]] = []
        block = Block(pl.DataFrame(), is_plain)
        reader = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=self.separator, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                break
            except csv.Error:
                _refuse("quote", "", "a quote inside a cell", "quotes only around a whole cell, doubled inside it", row)
            if len(cells) != width:
                found = f"{len(cells)} cells" if cells else "an empty line"
                block.faults.append(Fault("ragged", "", found, f"{width} cells", row))
                block.odd.append((row, cells))
            else:
                numbers.append(row)
                rows.append(cells)
            row += 1
        columns = zip(*rows, strict=True) if rows else ([] for _ in range(width))
        series = [pl.Series(f"c{i}", column, pl.String) for i, column in enumerate(columns)]
        frame = pl.DataFrame([pl.Series("row", numbers, pl.Int64), *series])
        block.frame = frame.with_columns(pl.col(pl.String).replace("", None))
        return self._without_header(block), row

    def _without_header(self, block: Block) -> Block:
        """The header stands once: rows that repeat it are faults."""
        if block.frame.is_empty() or not (block.frame["c0"] == self.header[0]).any():
            return block
        repeats = pl.all_horizontal(pl.col(f"c{i}") == name for i, name in enumerate(self.header))
        for row in block.frame.filter(repeats)["row"].to_list():
            block.faults.append(
                Fault("header_repeated", "", "the header again", "the header once, as the first row", row)
            )
            block.odd.append((row, self.header))
        block.frame = block.frame.filter(~repeats)
        return block

    def _pieces(self) -> Iterator[bytes]:
        """The unpacked bytes; what is too large for what it was packed into is a bomb."""
        self._stream.seek(0)
        source: IO[bytes] = self._stream
        if self._is_packed:
            source = gzip.GzipFile(fileobj=self._stream)  # type: ignore[assignment]
        total = 0
        while True:
            try:
                piece = source.read(PIECE_BYTES)
            except (gzip.BadGzipFile, EOFError, zlib.error):
                _refuse("archive_broken", "", "a gzip file that breaks off or is damaged", "a whole file")
            if not piece:
                return
            total += len(piece)
            if total > MOST_UNPACKED_BYTES or (
                self._is_packed and total > FREE_BYTES and total > MOST_RATIO * self._size
            ):
                _refuse("too_large", "", f"more than {total} bytes unpacked", f"at most {MOST_UNPACKED_BYTES} bytes")
            yield piece

    def _survey(self) -> tuple[str, int]:
        """Encoding and lines; refuses what is no text, and rows and records beyond all measure."""
        lines = since = read = before = 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        is_ascii = True
        broken: Fault | None = None
        for piece in self._pieces():
            if b"\0" in piece or (not read and piece.startswith((b"%PDF", b"PAR1", b"\xff\xfe", b"\xfe\xff"))):
                _refuse("not_a_table", "", _kind_of(piece), "CSV in UTF-8 or GB18030, gzipped or not, or XLSX")
            if broken is None and not (is_ascii and piece.isascii()):
                is_ascii = False
                try:
                    before += sum(not one.isascii() for one in decoder.decode(piece)[:1000])
                except UnicodeDecodeError as error:
                    row = lines + piece.count(b"\n", 0, error.start)
                    broken = Fault("encoding", "", "byte " + piece[error.start : error.start + 4].hex(" "), "", row)
                    before += sum(byte >= 0xE0 for byte in piece[: error.start])
            lines += piece.count(b"\n")
            last = piece.rfind(b"\n")
            since = since + len(piece) if last < 0 else len(piece) - last - 1
            if since > MOST_RECORD_BYTES:
                _refuse("record_too_long", "", f"more than {since} bytes", f"at most {MOST_RECORD_BYTES} bytes", lines)
            if lines > MOST_ROWS + 1:
                _refuse("too_many_rows", "", f"more than {MOST_ROWS} rows", f"at most {MOST_ROWS} rows")
            read += len(piece)
        if since:
            lines += 1  # the last line may lack its end
        if broken is None:
            tail = decoder.getstate()[0]
            if isinstance(tail, bytes) and tail:
                broken = Fault("encoding", "", "byte " + tail.hex(" "), "", lines - 1)
        if broken is None:
            return "utf-8", lines
        # A file that was good UTF-8 for a while is broken UTF-8; GB18030 would read nonsense into it.
        if before < 4 and self._is_gb18030():
            return "gb18030", lines
        raise BadInput([Fault("encoding", "", broken.found, "UTF-8 or GB18030 throughout", broken.row)])

    def _is_gb18030(self) -> bool:
        decoder = codecs.getincrementaldecoder("gb18030")()
        try:
            for piece in self._pieces():
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
        return True

    def _texts(self) -> Iterator[bytes]:
        """The bytes as UTF-8, without a byte order mark; never an empty piece."""
        decoder = codecs.getincrementaldecoder("gb18030")()
        is_first = True
        for piece in self._pieces():
            data = decoder.decode(piece).encode() if self.encoding == "gb18030" else piece
            if is_first:
                data = data.removeprefix(codecs.BOM_UTF8)
            is_first = False
            if data:
                yield data

    def _first_record(self) -> str:
        waiting = b""
        for piece in self._texts():
            waiting += piece
            if end := _record_end(waiting, first=True):
                return waiting[:end].decode().rstrip("\r\n")
            if len(waiting) > MOST_RECORD_BYTES:
                _refuse("header_quotes", "", "a header without an end", "quotes that open and close around a name", 0)
        return waiting.decode().rstrip("\r\n")

    def _samples(self) -> list[list[str]]:
        for block in self.blocks():
            rows = block.frame.drop("row").head(SAMPLES).fill_null("").rows()
            return [list(row) for row in rows] or [cells for _, cells in block.odd[:SAMPLES]]
        return []

    def _row_of_quote(self, data: bytes, row: int) -> int:
        """The row of `data` in which a quote opens that nothing closes: the first that does not end where it should."""
        ends = data.count(b"\n", 0, data.rfind(b'"') + 1)
        return row + ends


def _record_end(data: bytes, *, first: bool = False) -> int:
    """The index after the last (or the first) line end of `data` that stands outside quotes; 0: there is none."""
    if first:
        start = 0
        while (at := data.find(b"\n", start)) >= 0:
            if data.count(b'"', 0, at) % 2 == 0:
                return at + 1
            start = at + 1
        return 0
    end, quotes = len(data), data.count(b'"')
    while (at := data.rfind(b"\n", 0, end)) >= 0:
        quotes -= data.count(b'"', at, end)
        if quotes % 2 == 0:
            return at + 1
        end = at
    return 0


def _place_of_quote(data: bytes) -> str:
    at = data.rfind(b'"')
    return data[at : at + 40].decode(errors="replace")


def _check_header(header: list[str]) -> None:
    """Raises: BadInput, every fault of the names."""
    if len(header) > MOST_COLUMNS:
        _refuse("too_many_columns", "", f"{len(header)} columns", f"at most {MOST_COLUMNS} columns", 0)
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for number, name in enumerate(header, 1):
        place = name[:80] or f"column {number}"
        if not name.strip():
            faults.append(Fault("header_empty", place, name, "a name for each column", 0))
        elif len(name) > MOST_NAME_CHARACTERS:
            expected = f"at most {MOST_NAME_CHARACTERS} characters"
            faults.append(Fault("header_length", place, f"{len(name)} characters", expected, 0))
        elif any(unicodedata.category(one) in _HIDDEN for one in name):
            expected = "no control, direction or zero-width characters"
            faults.append(Fault("header_character", ascii(place), ascii(name)[:200], expected, 0))
        elif normal(name) in seen:
            faults.append(
                Fault("header_duplicate", place, f"column {number}", f"not the name of {seen[normal(name)]}", 0)
            )
        seen.setdefault(normal(name), f"column {number}")
    if faults:
        raise BadInput(faults)


# --- workbooks -----------------------------------------------------------------------------------


class _Workbook:
    """XLSX: one sheet with data, values only."""

    is_workbook = True
    encoding = "xlsx"

    def __init__(self, stream: IO[bytes]) -> None:
        size = stream.seek(0, io.SEEK_END)
        if size > MOST_WORKBOOK_BYTES:
            _refuse("too_large", "", f"{size} bytes", f"at most {MOST_WORKBOOK_BYTES} bytes")
        stream.seek(0)
        position = _check_workbook(stream)
        stream.seek(0)
        try:
            book = fastexcel.read_excel(stream.read())
            frame = book.load_sheet(position, header_row=None, dtypes="string").to_polars()
        except (fastexcel.FastExcelError, ValueError):
            _refuse(
                "archive_broken", "", "a workbook that cannot be read", "a workbook as Excel or LibreOffice saves it"
            )
        if frame.is_empty():
            _refuse("empty", "", "an empty sheet", "a table with a header and rows")
        self.header = [str(cell or "") for cell in frame.row(0)]
        _check_header(self.header)
        self.rows = frame.height - 1
        if not self.rows:
            _refuse("no_rows", "", "a header and nothing more", "at least one row")
        names = [f"c{i}" for i in range(frame.width)]
        self._frame = frame.slice(1).rename(dict(zip(frame.columns, names, strict=True)))
        self._frame = self._frame.with_columns(
            pl.col(pl.String).replace("", None), pl.int_range(1, self.rows + 1, dtype=pl.Int64).alias("row")
        )
        self.samples = [list(row) for row in self._frame.drop("row").head(SAMPLES).fill_null("").rows()]

    def blocks(self) -> Iterator[Block]:
        for frame in self._frame.iter_slices(50_000):
            yield Block(frame, is_plain=False)


_CELL = re.compile(rb'<c r="([A-Z]{1,3})([0-9]{1,7})"')
_ANY_CELL = re.compile(rb"<(?:[A-Za-z0-9_.-]+:)?c[\s/>]")
_FORMULA = re.compile(rb'<c r="([A-Z]{1,3}[0-9]{1,7})"[^>]*>\s*<(?:[a-z]+:)?f[\s/>]')
_ANY_FORMULA = re.compile(rb"<(?:[A-Za-z0-9_.-]+:)?f[\s/>]")
_ERROR = re.compile(rb'<c r="([A-Z]{1,3}[0-9]{1,7})"[^>]*\bt="e"')


def _check_workbook(stream: IO[bytes]) -> int:
    """Look at the directory, then at every part, before anything is built; return which sheet has the data."""
    try:
        archive = zipfile.ZipFile(stream)
        entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        _refuse("archive_broken", "", "an archive that breaks off or is damaged", "a whole file")
    _check_directory(entries)
    sheets: list[tuple[str, int]] = []
    for entry in entries:
        if not entry.filename.endswith((".xml", ".rels")):
            continue
        try:
            cells = _check_part(archive, entry)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            _refuse("archive_broken", entry.filename[:80], "a damaged part", "a whole file")
        if cells:
            sheets.append((entry.filename, cells))
    if not sheets:
        _refuse("empty", "", "no sheet with data", "a table with a header and rows")
    if len(sheets) > 1:
        _refuse("several_sheets", "", f"{len(sheets)} sheets with data", "one sheet with data")
    # The order of sheets is the workbook's; a book with one filled sheet among empty ones names it by its part.
    try:
        order = _sheet_parts(archive)
    except (KeyError, zipfile.BadZipFile):
        _refuse("archive_broken", "xl/workbook.xml", "no list of sheets", "a workbook as Excel or LibreOffice saves it")
    if sheets[0][0] not in order:
        _refuse("archive_broken", "xl/workbook.xml", "a sheet that the workbook does not list", "every sheet listed")
    return order.index(sheets[0][0])


def _check_directory(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_ENTRIES:
        _refuse("archive_entries", "", f"{len(entries)} parts", f"at most {MOST_ENTRIES} parts")
    names = [entry.filename.casefold() for entry in entries]
    if len(set(names)) != len(names):
        _refuse("archive_entries", "", "a part twice", "each part once")
    total, end = 0, 0
    for entry in sorted(entries, key=lambda one: one.header_offset):
        name = entry.filename
        is_link = entry.external_attr >> 16 & 0o170000 == 0o120000
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or ":" in name or is_link:
            _refuse("archive_names", name[:80], "a name outside the archive, or a link", "names inside the archive")
        if entry.flag_bits & 1:
            _refuse("archive_locked", name[:80], "a part under a password", "a workbook without a password")
        if entry.header_offset < end:
            _refuse("archive_entries", name[:80], "parts that overlap", "parts one after the other")
        end = entry.header_offset + 30 + len(name.encode()) + entry.compress_size
        total += entry.file_size
        if total > MOST_WORKBOOK_BYTES or (
            entry.file_size > FREE_BYTES and entry.file_size > MOST_RATIO * max(entry.compress_size, 1)
        ):
            _refuse("too_large", name[:80], f"more than {total} bytes unpacked", f"at most {MOST_WORKBOOK_BYTES} bytes")
        lower = name.casefold()
        if lower.endswith(("vbaproject.bin", "vbadata.xml")) or "/macrosheets/" in lower:
            _refuse("macros", name[:80], "a macro", "a workbook without macros")
        if "externallinks/" in lower or lower.endswith("connections.xml"):
            _refuse("outside_links", name[:80], "a link to another file", "values only")


def _check_part(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Read one XML part in pieces; return how many cells it has, 0 unless it is a sheet."""
    is_sheet = entry.filename.startswith("xl/worksheets/") and entry.filename.endswith(".xml")
    is_relations = entry.filename.endswith(".rels")
    cells = last_row = last_column = 0
    found: list[Fault] = []
    with archive.open(entry) as part:
        waiting, is_first = b"", True
        while piece := part.read(PIECE_BYTES // 2):
            data = waiting + piece
            if is_first and (data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:64]):
                _refuse("sheet_form", entry.filename[:80], "not UTF-8", "XML in UTF-8")
            if b"\0" in piece or b"<!" in data.replace(b"<!--", b""):
                _refuse("xml_entities", entry.filename[:80], "a document type or an entity", "plain XML")
            is_first = False
            if is_relations and re.search(rb"TargetMode\s*=\s*[\"']External", data):
                _refuse("outside_links", entry.filename[:80], "a link to another place", "values only")
            # Cut before the last cell that has begun, so that each is seen once and whole.
            cut = max(data.rfind(b"<c "), data.rfind(b"<row"), 0) if is_sheet else max(len(data) - 64, 0)
            if len(data) - cut > MOST_RECORD_BYTES:
                cut = len(data) - 64
            now, waiting = data[:cut], data[cut:]
            if is_sheet:
                rows, columns, count = _measure(now, entry.filename, found)
                last_row, last_column, cells = max(last_row, rows), max(last_column, columns), cells + count
        if is_sheet:
            rows, columns, count = _measure(waiting, entry.filename, found)
            last_row, last_column, cells = max(last_row, rows), max(last_column, columns), cells + count
    if found:
        raise BadInput(found)
    if last_column > MOST_COLUMNS:
        _refuse("too_many_columns", "", f"{last_column} columns", f"at most {MOST_COLUMNS} columns", 0)
    if last_row * last_column > MOST_WORKBOOK_CELLS:
        expected = f"at most {MOST_WORKBOOK_CELLS} cells in a workbook; a larger table as CSV"
        _refuse("too_many_rows", "", f"{last_row} rows of {last_column} columns", expected)
    return cells


def _measure(data: bytes, name: str, found: list[Fault]) -> tuple[int, int, int]:
    """The last row and column that a piece of a sheet names, and its cells; formulas and errors go to `found`."""
    references = _CELL.findall(data)
    if len(references) != len(_ANY_CELL.findall(data)):
        _refuse("sheet_form", name[:80], "cells without a plain place", "a workbook as Excel or LibreOffice saves it")
    if _ANY_FORMULA.search(data):
        places = [place.decode() for place in _FORMULA.findall(data)] or ["?"]
        found += [
            Fault("formula", place.rstrip("0123456789"), f"a formula in {place}", "its value", _data_row(place))
            for place in places[: MOST_FILE_FAULTS - len(found)]
        ]
    for place in _ERROR.findall(data)[: MOST_FILE_FAULTS - len(found)]:
        text = place.decode()
        found.append(Fault("cell_error", text.rstrip("0123456789"), f"an error in {text}", "a value", _data_row(text)))
    columns = {column for column, _ in references}
    last_column = max((_column_number(column) for column in columns), default=0)
    return max((int(row) for row in {row for _, row in references}), default=0), last_column, len(references)


def _data_row(place: str) -> int | None:
    digits = place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ?")
    return int(digits) - 1 if digits else None


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _sheet_parts(archive: zipfile.ZipFile) -> list[str]:
    """The parts of the sheets in the workbook's order."""
    book = archive.read("xl/workbook.xml").decode(errors="replace")
    relations = archive.read("xl/_rels/workbook.xml.rels").decode(errors="replace")
    targets = {}
    for relation in re.findall(r"<(?:\w+:)?Relationship\b[^>]*>", relations):
        identity, target = re.search(r'\bId="([^"]*)"', relation), re.search(r'\bTarget="([^"]*)"', relation)
        if identity and target:
            path = target[1]
            targets[identity[1]] = path.removeprefix("/") if path.startswith("/") else f"xl/{path}"
    sheets = re.findall(r"<(?:\w+:)?sheet\b[^>]*>", book)
    return [targets.get(found[1], "") for sheet in sheets if (found := re.search(r'\b\w+:id="([^"]*)"', sheet))]
