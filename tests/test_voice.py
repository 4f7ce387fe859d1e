"""The voice: docstrings, comments and messages of the package keep to the plain English of the field."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
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
}
"""Each pattern, and what to write instead."""

PATTERN = re.compile(rf"(?<![\w-])(?:{'|'.join(f'(?P<p{i}>{text})' for i, text in enumerate(BANNED))})(?![\w-])", re.I)

FILES = [path for package in ("arrow_schemas", "memxlnet") for path in sorted((ROOT / package).rglob("*.py"))]


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the string constants, docstrings and comments of a module, each with its first line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def faults(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the banned words and what to write instead."""
    for line, piece in prose(text):
        for match in PATTERN.finditer(re.sub(r"(?<=\S)[ \t]*\n[ \t]*(?=\S)", " ", piece)):
            yield line, match.group(), list(BANNED.values())[int((match.lastgroup or "p0")[1:])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_package_speaks_plainly(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    wrong = [
        f"{name}:{line}: {words!r}; write: {instead}"
        for line, words, instead in faults(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


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
    assert [number for number, _, _ in faults(text)] == [line]


@pytest.mark.parametrize("text", ['"""An ongoing build, told_by, retold."""\n', "told = telling(anew)\n"])
def test_other_words_pass(text: str) -> None:
    assert list(faults(text)) == []
