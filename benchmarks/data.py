"""The data of the benchmarks: a file in SQuAD's format and a tokenizer; also repeated, or with long contexts.

`MEMXLNET_BENCH_FILE` and `MEMXLNET_BENCH_TOKENIZER` name them (``python -m benchmarks --data --tokenizer`` sets both);
else the SQuAD development set and XLNet's vocabulary in the folder `MEMXLNET_DATA`; else the bundled sample.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from memxlnet.sample import sample_file, sample_tokenizer_directory

SHARED = Path(os.environ.get("MEMXLNET_DATA", Path(__file__).parents[2] / "shared" / "data"))

SQUAD = SHARED / "squad" / "dev-v2.0.json"

FILE_VARIABLE, TOKENIZER_VARIABLE, WORK_VARIABLE = (f"MEMXLNET_BENCH_{name}" for name in ("FILE", "TOKENIZER", "DIR"))


LONG_ARTICLES = 10
"""Minimum number of articles in a file of long documents."""


class DataError(ValueError):
    """The data file cannot be used."""


class Data(NamedTuple):
    """The file and the tokenizer of a run.

    Attributes:
        file: Examples in SQuAD's format.
        tokenizer: Directory of the tokenizer.
        what: Their description in the report.
    """

    file: Path
    tokenizer: Path
    what: str


def data() -> Data:
    """Return the data; it is chosen by environment variables, so that child processes use the same."""
    xlnet_directory = SHARED / "xlnet-base-cased"
    sample = sample_tokenizer_directory()
    named = os.environ.get(FILE_VARIABLE)
    if named:
        file, what = Path(named), f"the file {Path(named).name}"
    elif SQUAD.is_file():
        file, what = SQUAD, "questions of the SQuAD 2.0 development set"
    else:
        file, what = sample_file(), "the bundled sample"
    named = os.environ.get(TOKENIZER_VARIABLE)
    if named:
        return Data(file, Path(named), f"{what}, tokenizer {Path(named).name}")
    if xlnet_directory.is_dir():
        return Data(file, xlnet_directory, f"{what}, XLNet's vocabulary")
    return Data(file, sample, f"{what}, the bundled tokenizer")


def work() -> Path:
    """Return the work folder of this data, created if missing."""
    folder = root() / _digest(data())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def root() -> Path:
    """Return the work folder of all data."""
    return Path(os.environ.get(WORK_VARIABLE, Path(__file__).parents[1] / "build" / "bench"))


@cache
def _digest(found: Data) -> str:
    return hashlib.sha256(found.file.read_bytes() + (found.tokenizer / "tokenizer.json").read_bytes()).hexdigest()[:12]


def tokenizer() -> Any:
    """Return a fresh tokenizer, because tokenizers cache words."""
    from transformers import AutoTokenizer, XLNetTokenizerFast  # takes a second, and not every child needs it

    directory = data().tokenizer
    # The published vocabulary of XLNet comes without tokenizer_config.json, which names the class.
    kind = AutoTokenizer if (directory / "tokenizer_config.json").is_file() else XLNetTokenizerFast
    return kind.from_pretrained(directory)


def articles() -> list[dict[str, Any]]:
    """Return the articles of the file."""
    return _articles(data().file)


@cache
def _articles(file: Path) -> list[dict[str, Any]]:
    form = f"{file}: expected SQuAD's format, an object with a list of articles under 'data'"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{form}; found no JSON: {error}") from error
    articles = found.get("data") if isinstance(found, dict) else None
    if not isinstance(articles, list) or not all(isinstance(one, dict) and "paragraphs" in one for one in articles):
        raise DataError(f"{form} with paragraphs; found another format")
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    if not all(isinstance(one, dict) and {"context", "qas"} <= one.keys() for one in paragraphs):
        raise DataError(f"{form} with paragraphs of context and qas; found another format")
    if not any(paragraph["qas"] for paragraph in paragraphs):
        raise DataError(f"{form}; found no question")
    return articles


def num_examples() -> int:
    """Count the questions in the file."""
    return sum(len(paragraph["qas"]) for article in articles() for paragraph in article["paragraphs"])


def repeated_file(examples: int) -> Path:
    """Repeat the file until it has this number of examples.

    Ids are distinct. The contexts of each copy begin with another word, so that as many questions share a context as
    in the file itself.
    """
    return _written(work() / f"repeated-{examples}.json", _repeated(examples))


def _repeated(examples: int) -> Iterator[dict[str, Any]]:
    left = examples
    for copy in itertools.count():
        mark = f"copy{copy} "
        for article in articles():
            paragraphs = []
            for paragraph in article["paragraphs"]:
                questions = [_moved(question, len(mark), f"{copy}-") for question in paragraph["qas"][:left]]
                left -= len(questions)
                if questions:
                    paragraphs.append({"context": f"{mark}{paragraph['context']}", "qas": questions})
            if paragraphs:
                yield {"title": article["title"], "paragraphs": paragraphs}
            if not left:
                return


def long_file(questions: int) -> Path:
    """Join the paragraphs of each article into one context; keep at most this number of questions per article."""
    return _written(work() / f"long-{questions}.json", _joined(questions))


def _joined(questions: int) -> Iterator[dict[str, Any]]:
    """Yield all articles, repeated with other ids until there are `LONG_ARTICLES`."""
    for copy in range(-(-LONG_ARTICLES // len(articles()))):
        for article in articles():
            context, asked = f"copy{copy}\n" if copy else "", []
            for paragraph in article["paragraphs"]:
                asked += [_moved(question, len(context), f"{copy}-") for question in paragraph["qas"]]
                context += paragraph["context"] + "\n"
            if asked:
                yield {"title": article["title"], "paragraphs": [{"context": context, "qas": asked[:questions]}]}


def whole_file(questions: int) -> Path:
    """Join all contexts of the file, twice, into one context with this number of questions: very long documents."""
    return _written(work() / f"whole-{questions}.json", _whole(questions))


def _whole(questions: int) -> Iterator[dict[str, Any]]:
    paragraphs = [paragraph for article in articles() for paragraph in article["paragraphs"]]
    text = "\n".join(paragraph["context"] for paragraph in (*paragraphs, *paragraphs))
    asked = [{**question, "answers": []} for paragraph in paragraphs for question in paragraph["qas"]]
    yield {"title": "all", "paragraphs": [{"context": text, "qas": asked[:questions]}]}


def book_file(characters: int, questions: int = 20) -> Path:
    """Write one text of this length, not all ASCII, with questions whose offsets are all wrong."""
    return _written(work() / f"book-{characters}-{questions}.json", _book(characters, questions))


def _book(characters: int, questions: int) -> Iterator[dict[str, Any]]:
    contexts = itertools.cycle(paragraph["context"] for article in articles() for paragraph in article["paragraphs"])
    pieces, length = [], 0
    while length < characters:
        pieces.append(next(contexts).replace(" the ", " th\u00e9 "))
        length += len(pieces[-1]) + 1
    text = "\n".join(pieces)[:characters]
    step = characters // questions
    asked = [
        {
            "id": f"book-{number}",
            "question": f"What is said in place {number}?",
            "answers": [
                {"text": text[number * step :][:20].strip(), "answer_start": (number * step + step) % characters}
            ],
        }
        for number in range(questions)
    ]
    yield {"title": "book", "paragraphs": [{"context": text, "qas": asked}]}


def _moved(question: dict[str, Any], by: int, prefix: str) -> dict[str, Any]:
    answers = [{"text": one["text"], "answer_start": one["answer_start"] + by} for one in question.get("answers", [])]
    return {"id": f"{prefix}{question['id']}", "question": question["question"], "answers": answers}


def _written(path: Path, content: Iterator[dict[str, Any]]) -> Path:
    """Write articles to a file unless it exists."""
    if path.is_file():
        return path
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(b'{"version": "v2.0", "data": [\n')
        for number, article in enumerate(content):
            file.write((b",\n" if number else b"") + orjson.dumps(article))
        file.write(b"\n]}\n")
    return temporary.replace(path)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the questions of a file in SQuAD's format as flat rows, as `datasets` does."""
    return [
        {
            "id": question["id"],
            "question": question["question"],
            "context": paragraph["context"],
            "answers": {
                "text": [answer["text"] for answer in question.get("answers", [])],
                "answer_start": [answer["answer_start"] for answer in question.get("answers", [])],
            },
        }
        for article in json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
