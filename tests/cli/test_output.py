"""Tables, fields and JSON: whole and tab-separated in a pipe, aligned for a person, and never a control character."""

import json
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.cli.output import (
    is_terminal,
    print_fields,
    print_json,
    print_table,
    print_title,
    printable,
    shown_bytes,
)

ROWS = [("a", 1), ("[bold]b[/bold] [MEM_READ_0] :smile: \\[x]", 12345), ("line\nend\ttab", None)]


def test_a_table_in_a_pipe_is_tab_separated(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "number"), ROWS, ("number",))
    assert capsys.readouterr().out.splitlines() == [
        "name\tnumber",
        "a\t1",
        "[bold]b[/bold] [MEM_READ_0] :smile: \\[x]\t12345",
        "line\\nend\\ttab\tNone",
    ]


@pytest.mark.usefixtures("terminal")
def test_a_table_for_a_person_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "number"), ROWS, ("number",))
    header, _, *rows = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert header.split() == ["name", "number"]
    assert [line.split()[0] for line in rows] == ["a", "[bold]b[/bold]", "line\\nend\\ttab"]
    # What looks like markup or like the name of an emoji is text.
    assert rows[1].lstrip().startswith("[bold]b[/bold] [MEM_READ_0] :smile: \\[x]  ")
    assert rows[1].endswith(" 12,345")
    assert len({len(line) for line in (header, *rows)}) == 1


@pytest.mark.usefixtures("terminal")
def test_a_narrow_terminal_loses_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name = "".join(chr(code) for code in range(ord("A"), ord("z")))
    for columns in (1, 20, 62, 70, 90):
        monkeypatch.setenv("COLUMNS", str(columns))
        print_table(("name", "number", "text"), [(name, 12345, name), ("short", 5, "x")], ("number",))
        header, _, first, *rest, last = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
        assert header == ["name", "number", "text"]
        # The first column is not folded, so that it can be copied; the others are, where there is no room.
        assert first[:2] == [name, "12,345"]
        assert first[2] + "".join(part for (part,) in rest) == name
        assert rest
        assert last == ["short", "5", "x"]


@pytest.mark.usefixtures("terminal")
def test_a_table_without_rows_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "number"), [], ("number",))
    assert capsys.readouterr().out.split()[:2] == ["name", "number"]


def test_fields_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"one": 1234, "longer name": "a\nb", "flag": True})
    assert capsys.readouterr().out == "one\t1234\nlonger name\ta\\nb\nflag\tTrue\n"
    print_fields({})
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("terminal")
def test_fields_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"one": 1234, "longer name": "x", "flag": True})
    assert click.unstyle(capsys.readouterr().out) == "one          1,234\nlonger name  x\nflag         True\n"


def test_titles(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> None:
    print_title("tables")
    assert capsys.readouterr().out == "\n# tables\n"
    request.getfixturevalue("terminal")
    print_title("tables")
    assert click.unstyle(capsys.readouterr().out) == "\ntables\n"


@given(st.text() | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_printable_text_says_the_same_without_control_characters(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    shown.encode()
    if text.isprintable():
        assert shown == text
    escaped = "".join(c.encode("unicode_escape").decode() if not (c.isprintable() or c == "\n") else c for c in text)
    assert shown == escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\rb"),
        ("a\nb", "a\nb"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\x07\x00\x7f", "\\x07\\x00\\x7f"),
        ("\udcff", "\\udcff"),
        ("Huế 中文 😀", "Huế 中文 😀"),
    ],
)
def test_printable_examples(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=9)
)
def test_json_is_read_back_and_holds_no_control_characters(value: object) -> None:
    with pytest.MonkeyPatch.context() as patched:
        found: list[str] = []
        patched.setattr(click, "echo", found.append)
        print_json(value)
    (text,) = found
    assert json.loads(text) == value
    assert text.isascii()
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (5_300_000, "5.3 MB"),
        (7.5e9, "7.5 GB"),
        (2e12, "2 TB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_bytes_have_a_unit(size: float, shown: str) -> None:
    assert shown_bytes(size) == shown


def test_whether_a_person_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_terminal()
    monkeypatch.setattr(sys, "stdout", None)
    assert not is_terminal()
