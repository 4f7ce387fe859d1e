"""Build with several kinds of tokenizers, compared with the pair call: ``python -m benchmarks.kinds [--rounds N]``.

A build runs in one process, as a user calls it: it reads the vocabulary and the JSON file, compares its first rows with
transformers, and syncs and publishes the cache. Encoding is a part of it: examples in memory to record batches with
answers and labels. The pair call is that of transformers on batches of 1,000 pairs in memory; it finds no answers and
writes nothing. Each starts with a fresh tokenizer without cached words, has one warm-up round, and then they alternate.
The bundled vocabulary replaces XLNet's if that is missing; the other tokenizers are trained on the measured files, with
the components of the published ones. Files are SQuAD's development set and XQuAD in the folder `MEMXLNET_DATA`, or the
bundled sample.
"""

import argparse
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.baseline import pair_call
from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.data import SHARED, data, rows_of, work
from benchmarks.data import tokenizer as xlnet_tokenizer
from benchmarks.measure import median, without_collection
from benchmarks.report.quantities import table
from memxlnet import process_and_cache_dataset
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import Example, parse_example
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.settings import EncodeSettings

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

BATCH = 1000


class Kind(NamedTuple):
    """A kind of byte-level BPE.

    Attributes:
        pattern: The pattern that splits words; None for that of GPT-2.
        normalizes: Normalize to NFC.
        pair: The template of a pair.
        special: The tokens used as ``cls`` and for padding.
        pieces: Maximum size of the vocabulary.
    """

    pattern: str | None
    normalizes: bool
    pair: str
    special: tuple[str, str]
    pieces: int


KINDS = {
    "RoBERTa": Kind(None, False, "<s> $A </s> </s> $B:1 </s>", ("<s>", "<pad>"), 50_000),
    "ModernBERT": Kind(None, True, "[CLS] $A [SEP] $B:1 [SEP]", ("[CLS]", "[PAD]"), 50_000),
    "Llama 3": Kind(_LETTERS + r"\p{N}{1,3}" + _REST, False, "<begin> $A <begin> $B:1", ("<begin>", "<end>"), 100_000),
    "Qwen 2": Kind(_LETTERS + r"\p{N}" + _REST, True, "<start> $A <start> $B:1", ("<start>", "<end>"), 100_000),
}


def files() -> dict[str, Path]:
    """Return the measured files by name."""
    xquad = {language: SHARED / "xquad" / f"xquad.{language}.json" for language in ("zh", "ar")}
    return {"SQuAD": data().file} | {f"XQuAD {name}": path for name, path in xquad.items() if path.is_file()}


def texts(paths: list[Path]) -> Iterator[str]:
    """Yield the distinct contexts and questions of files."""
    yield from dict.fromkeys(row[name] for path in paths for row in rows_of(path) for name in ("context", "question"))


def trained(kind: Kind, corpus: Iterator[str]) -> Tokenizer:
    """Train a tokenizer of a kind."""
    backend = Tokenizer(models.BPE(ignore_merges=kind.pattern is not None))
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind.pattern is None)
    backend.pre_tokenizer = to_bytes
    if kind.pattern is not None:
        split = pre_tokenizers.Split(Regex(kind.pattern), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    if kind.normalizes:
        backend.normalizer = normalizers.NFC()
    special = list(dict.fromkeys([*kind.special, *(word for word in kind.pair.split() if word[0] != "$")]))
    trainer = trainers.BpeTrainer(
        vocab_size=kind.pieces,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(corpus, trainer)
    ids = [(token, backend.token_to_id(token)) for token in special]
    around = processors.TemplateProcessing(single="$A", pair=kind.pair, special_tokens=ids)
    trimming = processors.ByteLevel(trim_offsets=kind.pattern is None, add_prefix_space=False)
    backend.post_processor = processors.Sequence([trimming, around])
    return backend


def makers() -> dict[str, Callable[[], Any]]:
    """Return factories of fresh tokenizers by kind; trained ones are kept in the work folder."""
    return {"XLNet": xlnet_tokenizer} | {name: partial(_fresh, name) for name in KINDS}


def _fresh(name: str) -> Any:
    kind, path = KINDS[name], work() / f"{name}.tokenizer.json"
    if not path.is_file():
        path.write_text(trained(kind, texts(list(files().values()))).to_str(), encoding="utf-8")
    cls, pad = kind.special
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(path)), cls_token=cls, pad_token=pad)


def build(tokenizer: Any, file: Path) -> int:
    """Build a cache in this process and return the number of rows."""
    folder = work() / "kinds"
    shutil.rmtree(folder, ignore_errors=True)
    return process_and_cache_dataset(
        file, "dev", folder, None, MAX_SEQ_LENGTH, DOC_STRIDE, tokenizer=tokenizer, progress=False, num_workers=0
    )


def pair_calls(tokenizer: Any, rows: list[dict[str, Any]]) -> int:
    """Run the pair call on batches of examples and return the number of rows."""
    segments = 0
    for start in range(0, len(rows), BATCH):
        questions, contexts = ([row[name] for row in rows[start : start + BATCH]] for name in ("question", "context"))
        segments += len(pair_call(tokenizer, questions, contexts, MAX_SEQ_LENGTH, DOC_STRIDE)["input_ids"])
    return segments


def encode(encoder: Encoder, examples: list[Example]) -> int:
    """Encode examples in batches and return the number of rows."""
    batches = (examples[start : start + BATCH] for start in range(0, len(examples), BATCH))
    return sum(encoder.encode(batch)["features"].num_rows for batch in batches)


def measure(make: Callable[[], Any], file: Path, rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of builds, encodings and pair calls.

    Raises:
        SystemExit: The numbers of rows differ.
    """
    rows = rows_of(file)
    examples = [parse_example(number, row, file.name) for number, row in enumerate(rows)]
    seconds: dict[str, list[float]] = {"build": [], "encoding": [], "pair call": []}
    for turn in range(rounds + 1):
        calls = {
            "build": partial(build, make(), file),
            "encoding": partial(encode, _encoder(make()), examples),
            "pair call": partial(pair_calls, make(), rows),
        }
        segments = {}
        for name, call in calls.items():
            with without_collection():
                begun = time.perf_counter()
                segments[name] = call()
                if turn:
                    seconds[name].append(time.perf_counter() - begun)
        if len(set(segments.values())) > 1:
            raise SystemExit(f"{file.name}: expected equal numbers of rows, found {segments}")
    return seconds


def _encoder(tokenizer: Any) -> Encoder:
    content = read_tokenizer(tokenizer)
    return Encoder(
        content.backend, content.layout, EncodeSettings(max_seq_length=MAX_SEQ_LENGTH, doc_stride=DOC_STRIDE)
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.kinds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each build and each pair call (default: 5)")
    options = parser.parse_args(arguments)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    rows = []
    for kind, make in makers().items():
        for name, file in files().items():
            seconds = measure(make, file, options.rounds)
            called = seconds.pop("pair call")
            row = [kind, name, f"{median(called):.2f} s"]
            for samples in seconds.values():
                ratios = [theirs / ours for theirs, ours in zip(called, samples, strict=True)]
                row += [f"{median(samples):.2f} s", f"{median(ratios):.1f} ({min(ratios):.1f})"]
            rows.append(row)
    titles = ["tokenizer", "file", "pair call", "build", "times as fast (lowest)"]
    print(table([*titles, "encoding", "times as fast (lowest)"], rows))


if __name__ == "__main__":
    main()
