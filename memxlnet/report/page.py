"""One HTML file about a cache: settings, counts, distributions, labels, scores, and documents to browse."""

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from memxlnet.encode.examples import BadExample
from memxlnet.errors import MissingLibraryError, SettingsError
from memxlnet.evaluate.bootstrap import Resampling
from memxlnet.evaluate.cache_argument import CacheLike, open_with_view
from memxlnet.evaluate.ceiling import AnswerCeiling, answer_ceiling
from memxlnet.evaluate.run_comparison import RunComparison, compare_scores
from memxlnet.format.joined import JoinedCache
from memxlnet.format.opened_parts import CacheView
from memxlnet.format.paths import as_path, replace_file
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.load.statistics import CacheStatistics, UsefulShares, read_statistics
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.progress import Heartbeat
from memxlnet.report.documents import MOST_BYTES, DocumentReader, PageDocuments, choose, compare
from memxlnet.report.plots import page_plots, plot_f1_by_step
from memxlnet.report.predictions import Given, read_predictions
from memxlnet.report.scores import (
    LABELS,
    UNREACHABLE,
    VERDICTS,
    Labelled,
    Run,
    read_labels,
    score,
    step_groups,
)
from memxlnet.settings import check_bool, positive_int
from memxlnet.system_errors import cache_errors

DEFAULT_DOCUMENTS = 200

_EXAMPLES = 5
_DROPPED_SHOWN = 20
_WITH_EXAMPLES = ("repaired", "dropped", UNREACHABLE)

Predictions = Mapping[str, str] | Mapping[str, Sequence[Mapping[str, Any]]] | str | os.PathLike[str]
"""Answers by id, empty for no answer; n-best lists by id, of entries with ``text`` and ``probability``, of which the
most probable is the answer; or a JSON file of either, as `AnswerCollector` and the scripts of transformers write it."""


def write_report(
    cache: CacheLike,
    path: str | os.PathLike[str],
    *,
    predictions: Predictions | None = None,
    against: Predictions | None = None,
    documents: int = DEFAULT_DOCUMENTS,
    replace: bool = False,
) -> Path:
    """Write one HTML file about a cache; it needs no network and opens from the disk.

    Args:
        cache: The cache; a dataset over one or a view of it, or a directory: of documents those in the view count.
        path: The file; it appears when all of it is written.
        predictions: Answers or n-best lists to score and to show, for exactly the documents of the cache.
        against: Those of another run, to compare with.
        documents: Documents in the page at most; all are counted, and those in the page are spread over all outcomes.
        replace: Replace a file that exists.

    Returns:
        The absolute path of the file.

    Raises:
        SettingsError: An argument is wrong, the file exists or is one of the predictions, predictions are missing or
            for other ids, or an id occurs in several joined caches.
        MissingLibraryError: jinja2 or matplotlib is not installed.
        CacheDamagedError: A value of the cache cannot be.
        CacheOSError: The file cannot be written; a `CacheDirectoryError` where access stops it.
    """
    most = positive_int("documents", documents)
    file = _new_file(path, check_bool("replace", replace))
    if against is not None and predictions is None:
        raise SettingsError("against: expected predictions as well, found None; pass those of the first run")
    passed = {"predictions": predictions, "against": against}
    _check_inputs_stay(file, passed)
    environment = _environment()
    with Heartbeat(lambda _: f"{file.name}: reading the cache, and writing the page"):
        opened, held = open_with_view(cache)
        given = _read_given(passed)
        runs = [score(opened, argument, one.name, one.texts, held) for argument, one in given.items()]
        labelled = read_labels(opened, held)
        reader = DocumentReader(opened, labelled, runs, [one.n_best for one in given.values()])
        shown = reader.read(choose(labelled, runs, most))
        values = _page_values(opened, labelled, runs, shown)
        _write_whole(file, environment.get_template("page.html").render(values).encode())
    return file


def _new_file(path: object, replace: bool) -> Path:
    file = as_path("path", path, "the name of an HTML file")
    if not file.parent.is_dir():
        raise SettingsError(f"path: expected a file in a directory that exists, found {str(file)!r}; create it first")
    with cache_errors(file, "written"):
        if file.exists() and not file.is_file():
            found = "directory" if file.is_dir() else "device or pipe"
            raise SettingsError(f"path: expected the name of a file, found the {found} {str(file)!r}")
        if file.exists() and not replace:
            raise SettingsError(f"path: expected a file that does not exist, found {str(file)!r}; pass replace=True")
    return file


def _check_inputs_stay(file: Path, passed: Mapping[str, Predictions | None]) -> None:
    for argument, value in passed.items():
        is_input = False
        with contextlib.suppress(OSError, ValueError):  # reading reports a file that is not there
            is_input = isinstance(value, str | os.PathLike) and file.samefile(value)
        if is_input:
            raise SettingsError(
                f"path: expected another file than the {argument}, found {str(file)!r}; choose another name"
            )


def _environment() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingLibraryError("report: expected jinja2, found none; pip install 'memxlnet[report]'") from error
    loader = PackageLoader("memxlnet.report", "")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _read_given(passed: Mapping[str, Predictions | None]) -> dict[str, Given]:
    """Read all files before any is scored; runs of equal names get those of their arguments."""
    found = {argument: read_predictions(argument, value) for argument, value in passed.items() if value is not None}
    if len({one.name for one in found.values()}) < len(found):
        found = {argument: replace(one, name=f"{one.name} ({argument})") for argument, one in found.items()}
    return found


def _page_values(
    cache: PublishedCache, labelled: Labelled, runs: Sequence[Run], shown: PageDocuments
) -> dict[str, Any]:
    """Return what the template shows."""
    from jinja2.utils import htmlsafe_json_dumps
    from markupsafe import Markup

    chosen = None if labelled.shown.all() else np.flatnonzero(labelled.shown)
    statistics = read_statistics(cache, chosen=chosen)
    # Of a view the ceiling has no dropped examples; the page lists those of the cache.
    ceiling = replace(answer_ceiling(CacheView(cache, chosen)), dropped_examples=cache.manifest.dropped_examples)
    script = (resources.files("memxlnet.report") / "page.js").read_text(encoding="utf-8")
    style = (resources.files("memxlnet.report") / "page.css").read_text(encoding="utf-8")
    groups = step_groups(labelled)
    plots = page_plots(statistics, _counted(_context_tokens(cache)[labelled.shown]))
    if runs and groups:
        plots["f1_by_step"] = plot_f1_by_step({run.name: _f1_and_totals(run, groups) for run in runs})
    data = {
        "documents": shown.documents,
        "contexts": shown.contexts,
        "vocabulary": shown.vocabulary,
        "memory": cache.manifest.layout.num_memory_tokens,
        "runs": [run.name for run in runs],
        "labels": LABELS,
        "verdicts": VERDICTS,
    }
    return {
        "title": f"{cache.manifest.name}/{cache.manifest.split}",
        "cache": cache,
        "manifest": cache.manifest,
        "statistics": statistics,
        "ceiling": ceiling,
        "settings": cache.manifest.settings,
        "cards": _cards(labelled, statistics, ceiling, runs),
        "account": _account(labelled),
        "examples": _examples(shown),
        "dropped": list(islice(_dropped(cache), _DROPPED_SHOWN)),
        "useful": {field.name.replace("_", ", "): field.name for field in fields(UsefulShares)},
        "runs": runs,
        "evaluation": _evaluation(labelled, runs, groups),
        "shown": shown,
        "most_megabytes": MOST_BYTES // 1_000_000,
        "labels": LABELS,
        "verdicts": VERDICTS,
        "plots": {name: Markup(svg) for name, svg in plots.items()},
        "data": htmlsafe_json_dumps(data, dumps=lambda value: orjson.dumps(value).decode()),
        "style": Markup(style),
        "script": Markup(script),
        # Only this script runs: text of the data can never become one.
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }


def _f1_and_totals(run: Run, groups: Mapping[str, NDArray[np.bool_]]) -> dict[str, tuple[float, int]]:
    """Return F1 and the number of documents in each group."""
    figures = {name: run.figures(chosen) for name, chosen in groups.items()}
    return {name: (found["f1"], int(found["total"])) for name, found in figures.items()}


def _dropped(cache: PublishedCache) -> Iterator[BadExample]:
    """Yield the examples that gave no document; the rows of joined caches are those of each."""
    for part in cache.caches if isinstance(cache, JoinedCache) else (cache,):
        yield from read_dropped(part)


def _context_tokens(cache: PublishedCache) -> Ints:
    """Return int64[documents], the tokens of the context that the segments of a document hold."""
    found: Ints = np.zeros(cache.num_documents, np.int64)
    for shard in cache.features:
        stops = shard.columns["context_token_start"].astype(np.int64) + shard.columns["context_token_count"]
        np.maximum.at(found, shard.take("document", slice(None)), stops)
    return found


def _counted(values: Ints) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _cards(
    labelled: Labelled, statistics: CacheStatistics, ceiling: AnswerCeiling, runs: Sequence[Run]
) -> list[tuple[str, str, str]]:
    """Return title, figure and note of each card on top of the page."""
    found = [
        (f"F1, {run.name}", f"{figures['f1']:.2f}", f"exact match {figures['exact']:.2f}")
        if figures["total"]
        else (f"F1, {run.name}", "unknown", "no document is labelled")
        for run in runs
        for figures in (run.figures(labelled.shown),)
    ]
    best = "unknown" if ceiling.exact_match is None else f"{ceiling.exact_match:.2f}"
    return [
        *found,
        ("documents", f"{statistics.documents:,}", f"{statistics.recurrent_share:.1%} with several segments"),
        ("segments", f"{statistics.segments:,}", f"{statistics.segments / statistics.documents:.3f} per document"),
        ("tokens", f"{statistics.tokens:,}", f"{statistics.tokens / statistics.row_tokens:.1%} of the rows"),
        ("best exact match", best, "with perfect logits"),
    ]


def _account(labelled: Labelled) -> list[tuple[str, int, str]]:
    """Return label, documents and meaning of each outcome of the labels."""
    counts = np.bincount(labelled.label[labelled.shown], minlength=len(LABELS)).tolist()
    return [
        (label, count, _MEANING[label])
        for label, count in zip(LABELS, counts, strict=True)
        if count or label in (*_WITH_EXAMPLES, "exact", "unanswerable")
    ]


_MEANING = {
    "exact": "a gold answer stands at its offset",
    "repaired": "the nearest occurrence was taken, as the offset did not fit",
    "dropped": "no gold answer stands in the context; the document has no span",
    "unanswerable": "there is no gold answer",
    "unlabelled": "it is not known whether there is an answer",
    "yes_no": "all gold answers are yes or no",
    "number": "all gold answers are numbers that do not stand in the context",
    UNREACHABLE: "no segment holds the whole answer: it is longer than the overlap, or cut off",
}


def _examples(shown: PageDocuments) -> dict[str, list[dict[str, Any]]]:
    """Return some documents of the page for each outcome that may surprise."""
    return {
        label: [document for document in shown.documents if document["label"] == label][:_EXAMPLES]
        for label in _WITH_EXAMPLES
    }


def _evaluation(labelled: Labelled, runs: Sequence[Run], groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of the scores; empty without a run."""
    if not runs:
        return {}
    every = labelled.shown
    known = ~np.isnan(runs[0].f1)
    parts = {"all": every, "with a gold answer": labelled.answered, "without one": ~labelled.answered}
    confusion = [
        [
            [int((known & (labelled.answered == gold) & (run.answered == predicted)).sum()) for predicted in (1, 0)]
            for gold in (1, 0)
        ]
        for run in runs
    ]
    return {
        "parts": [
            (name, [run.figures(chosen) | run.intervals(chosen) for run in runs]) for name, chosen in parts.items()
        ],
        "steps": [(name, [run.figures(chosen) for run in runs]) for name, chosen in groups.items()],
        "confusion": confusion,
        "verdicts": [
            (name, [int((run.verdict[every] == number).sum()) for run in runs]) for number, name in enumerate(VERDICTS)
        ],
        "changes": _changes(runs, every) if len(runs) > 1 else None,
        "comparison": _comparison(runs) if len(runs) > 1 and known.any() else None,
    }


def _changes(runs: Sequence[Run], shown: NDArray[np.bool_]) -> dict[str, int]:
    change = compare(runs)[shown]
    return {"better": int((change > 0).sum()), "worse": int((change < 0).sum()), "equal": int((change == 0).sum())}


def _comparison(runs: Sequence[Run]) -> RunComparison:
    known = ~np.isnan(runs[0].f1)
    exact, f1 = ((getattr(runs[0], name)[known], getattr(runs[1], name)[known]) for name in ("exact", "f1"))
    return compare_scores(exact, f1, Resampling())


def _write_whole(path: Path, content: bytes) -> None:
    target = Path(os.path.realpath(path))  # what a link leads to is replaced, and not the link
    with cache_errors(path, "written"):
        replace_file(target, content)
