"""What many tests need: the real data where it is there, small examples, and a build in one call."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from memxlnet.data.cache_manager import find_cache
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.settings import EncodeSettings

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("MEMXLNET_DATA", ROOT.parent / "shared" / "data"))
WAIT_SECONDS = 300.0
"""The longest wait for something that must happen: long enough for a busy machine, and a test that passes never waits
that long."""

SQUAD = REAL_DATA / "squad" / "dev-v2.0.json"
XLNET = REAL_DATA / "xlnet-base-cased"


def xquad(language: str) -> Path:
    return REAL_DATA / "xquad" / f"xquad.{language}.json"


def need_real_data() -> None:
    if not (SQUAD.is_file() and (XLNET / "tokenizer.json").is_file()):
        pytest.skip(f"needs the SQuAD, XQuAD and XLNet files in {REAL_DATA} (or in the folder MEMXLNET_DATA)")


def slow(*values: Any) -> Any:
    """A row of a parametrized test that only `pytest -m slow` runs."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_but(quick: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """The values of a parametrized test, of which all but the quick ones are slow."""
    found, quick = list(values), list(quick)
    assert all(value in found for value in quick), f"expected {quick} among {found}"
    return [value if value in quick else slow(value) for value in found]


def in_quarters(test: Any) -> Any:
    """A property of which the quick suite tries a quarter of the examples, and the slow suite the rest.

    The test takes a `quarter`, which it has no use for.
    """
    profile = settings.default
    assert profile is not None
    count = -(-profile.max_examples // 4)
    return pytest.mark.parametrize("quarter", slow_but([1], range(1, 5)))(settings(max_examples=count)(test))


def example(
    context: str, question: str = "What is it?", answers: Iterable[tuple[str, int]] = (), **fields: Any
) -> dict[str, Any]:
    """A raw example; without an id unless one is given."""
    pairs = list(answers)
    texts, starts = [text for text, _ in pairs], [start for _, start in pairs]
    return {"question": question, "context": context, "answers": {"text": texts, "answer_start": starts}, **fields}


def long_examples(count: int, words: int = 200) -> list[dict[str, Any]]:
    """Examples over distinct contexts of `words` words; every third one is unanswerable."""
    examples = []
    for number in range(count):
        context = f"Document {number} begins. " + " ".join(f"word{number}x{index}" for index in range(words))
        answer = f"word{number}x{words // 2}"
        pairs = [] if number % 3 == 2 else [(answer, context.index(answer))]
        examples.append(example(context, f"Which word of {number}?", pairs, id=f"id-{number}"))
    return examples


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def told_by(module: str, *arguments: Any, options: Iterable[str] = (), timeout: float = 600) -> list[dict[str, Any]]:
    """Run a module in a process of its own, which must end well, and return the JSON lines that it writes."""
    done = subprocess.run(
        [sys.executable, *options, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
    return lines


def build(rows: Any, tokenizer: Any, cache_dir: Path, **settings: Any) -> CacheDataset:
    """Build a cache of rows or of a file and open it, with rows of 64 tokens and an overlap of 16."""
    settings = {"max_seq_length": 64, "doc_stride": 16, **settings}
    process_and_cache_dataset(rows, "test", cache_dir, tokenizer=tokenizer, **settings)
    keys = EncodeSettings.__dataclass_fields__
    params = {key: settings[key] for key in keys if key in settings}
    return CacheDataset(find_cache(cache_dir, rows, "test", {**params, "tokenizer": tokenizer})[0])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGINT raise KeyboardInterrupt, here and in processes started here; a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def short(value: object) -> str:
    """A parameter in the name of a test: short, and the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:60]
