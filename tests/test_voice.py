"""The voice: docstrings, comments, messages and Markdown keep to the plain English of the field."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

BANNED = {
    r"told|tells?|telling": "say, show, report, raise",
    r"(?:says?|said) so": "log a warning, raise",
    r"anew": "again",
    r"mere(?:ly)?": "only",
    r"ways? out": "hint",
    r"go(?:es)? on|going on|went on": "continue, resume",
    r"behind": "after",
    r"(?:is|are) (?-i:none)": "is missing, is not one",
    r"(?:be|is|are) had": "be available, be computed",
    r"of ours": "the name of the class",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"at work": "running",
    r"aside": "except, apart from",
    r"nought": "zero",
    r"thereof|therein|whereof|hence": "of it, in it",
    r"for want of": "without, out of",
    r"very same": "same",
    r"nothing but": "only",
    r"at hand": "available",
    r"by way of": "through, with",
    r"made-up": "synthetic",
    r"of yours": "your own",
    r"(?:do|does|done|did) without": "avoid, not need",
    r"but for|the better part": "except, most",
    r"(?:gives?|gave|given) back": "return, release",
    r"and the like|and its kin": "such as, similar",
}
"""Each pattern, and what to write instead."""

STRICTER = {
    **BANNED,
    r"(?:a|an|one) (?!of )\w+ (?:a|an) (?:core|document|row|column|file|segment)": "per",
    r"of (?:its|their|your|one's) own": "own, separate, custom",
    r"whatever|whoever|whichever": "any, each",
    r"so (?:many|much|often)": "this number of, that much",
    r"(?:twice|once|many times) over": "twice, once",
    r"beside": "next to, with",
    r"beforehand": "in advance, before",
    r"(?:is|are) (?:it )?there(?! (?:is|are))": "exists, is available",
}
"""The patterns for the benchmarks and for Markdown."""

MODULES = ("arrow_schemas", "memxlnet", "benchmarks", "tests")

FILES = [path for package in MODULES[:3] for path in sorted((ROOT / package).rglob("*.py"))]

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
    *(path for room in MODULES for path in sorted((ROOT / room).rglob("*.md"))),
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def table_of(path: Path) -> dict[str, str]:
    return STRICTER if path.suffix == ".md" or path.is_relative_to(ROOT / "benchmarks") else BANNED


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the string constants, docstrings and comments of a module, each with its first line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs, table rows and code blocks of a Markdown document, each with its first line."""
    for match in re.finditer(r"\|.*|(?:[^\n|].*\n?)+", text):
        yield text.count("\n", 0, match.start()) + 1, match.group()


def faults(pieces: Iterable[tuple[int, str]], table: dict[str, str]) -> Iterator[tuple[int, str, str]]:
    """Yield the line of the piece, the banned words and what to write instead."""
    words = "|".join(f"(?P<p{number}>{pattern})" for number, pattern in enumerate(table))
    pattern = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.I)
    for line, piece in pieces:
        for match in pattern.finditer(re.sub(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)", " ", piece)):
            yield line, match.group(), list(table.values())[int((match.lastgroup or "p0")[1:])]


@pytest.mark.parametrize("path", [*FILES, *DOCUMENTS], ids=name_of)
def test_the_words_are_plain(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    pieces = paragraphs(text) if path.suffix == ".md" else prose(text)
    wrong = [
        f"{name_of(path)}:{line}: {words!r}; write: {instead}"
        for line, words, instead in faults(pieces, table_of(path))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_modules_that_a_document_names_exist(path: Path) -> None:
    """A name is a path from the root or from a directory above the file, or a bare name."""
    files = [name_of(file) for room in MODULES for file in (ROOT / room).rglob("*.py")]
    named = re.findall(r"`([\w/.-]+\.py)`", path.read_text(encoding="utf-8"))
    assert [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)] == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('"""A file that is told."""\n', 1),
        ("x = 1  # it says so\n", 1),
        ('y = f"{x}: begin\\tanew"\n', 1),
        ('"""Where one lane\ngoes\n    on."""\n', 1),
        ('z = 1\nz = ("go "\n    "on")\n', 2),
    ],
)
def test_faults_are_found(text: str, line: int) -> None:
    assert [number for number, _, _ in faults(prose(text), BANNED)] == [line]


def test_faults_are_found_in_markdown() -> None:
    text = "# A title\n\nOne that goes\non, and stops.\n\n| it | is |\n| --- | --- |\n| is told | here |\n"
    assert [(line, words) for line, words, _ in faults(paragraphs(text), STRICTER)] == [(3, "goes on"), (8, "told")]


@pytest.mark.parametrize("text", ['"""An ongoing build, told_by, retold."""\n', "told = telling(anew)\n"])
def test_other_words_pass(text: str) -> None:
    assert list(faults(prose(text), STRICTER)) == []
