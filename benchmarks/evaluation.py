"""Figures of evaluation: ``python -m benchmarks.evaluation [--quick]``.

Answers are synthetic: a gold, the same with more words, the beginning of one, other words or none. Times are medians
of rounds over 130,000 documents. The memory of the n-best spans is that of a child process that adds random logits
of 300,000 rows, with 20 spans a document, and then makes their table: the largest anonymous memory at any time,
without that of the process before the first logits and without the table itself.
"""

import argparse
import random
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.caches import question_cache
from benchmarks.child import in_process
from benchmarks.measure import in_turns, median
from benchmarks.n_best_memory import collect
from benchmarks.report.quantities import table
from memxlnet import Cache, best_threshold, compare_runs, memory_report, metric_intervals, squad_metrics


def answers_of(cache: Cache, seed: int) -> dict[str, str]:
    """Return an answer to each question."""
    draw = random.Random(seed)
    found = {}
    for batch in cache.documents.batches():
        for name, golds in zip(batch["id"].to_pylist(), batch["answer_texts"].to_pylist(), strict=True):
            gold = draw.choice(golds or ["the answer"])
            found[name] = draw.choice([gold, f"{gold} and more words", gold[:5], "some other words", ""])
    return found


def calls(cache: Cache) -> dict[str, Callable[[], Any]]:
    """Return what is timed, by its name."""
    first, second = answers_of(cache, 0), answers_of(cache, 1)
    draw = random.Random(2)
    probabilities = {name: draw.random() for name in first}
    return {
        "squad_metrics": lambda: squad_metrics(first, cache),
        "with probabilities of no answer": lambda: squad_metrics(first, cache, no_answer_probabilities=probabilities),
        "by the step of the answer": lambda: squad_metrics(first, cache, by="answer_step"),
        "as a table": lambda: squad_metrics(first, cache, per_example=True),
        "best_threshold": lambda: best_threshold(first, probabilities, cache),
        "metric_intervals, 1,000 resamples": lambda: metric_intervals(first, cache),
        "compare_runs, 1,000 resamples": lambda: compare_runs(first, second, cache),
        "memory_report, 1,000 resamples": lambda: memory_report(first, second, cache),
        "documents_table": cache.documents_table,
        "golds_table": cache.golds_table,
    }


def metric_figures(rows: int, rounds: int) -> Iterator[list[str]]:
    """Time the metrics of all documents of a cache."""
    cache = Cache.open(question_cache(rows))
    for name, seconds in in_turns(calls(cache), rounds).items():
        yield [f"{name}, {cache.num_documents:,} documents", f"{median(seconds):.2f} s"]


def n_best_figures(rows: int) -> Iterator[list[str]]:
    """Measure the memory of the n-best spans of a cache."""
    child = in_process(collect, directory=str(question_cache(rows)))
    found = child.value
    beyond = child.peak().anonymous - found["before"] - found["table"]
    yield [
        f"table of the n-best spans of {found['rows']:,} rows, {found['spans']:,} spans",
        f"{found['table'] / 1e6:.0f} MB",
    ]
    yield ["largest memory beyond it", f"{beyond / 1e6:.0f} MB"]


def figures(quick: bool) -> Iterator[list[str]]:
    """Yield each figure with its name."""
    yield from metric_figures(6_000 if quick else 136_000, 3)
    yield from n_best_figures(6_000 if quick else 300_000)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.evaluation", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small caches")
    options = parser.parse_args(arguments)
    print(table(["what", "measured"], list(figures(options.quick))))


if __name__ == "__main__":
    main()
