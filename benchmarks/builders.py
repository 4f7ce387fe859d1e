"""Methods of building the features of a file: memxlnet, and the usual ones without it.

Each builds the five model columns of every segment, and the offsets and ids that map predictions to text. The
tokenizer is fresh. A method that writes its result has written it when the call returns.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.baseline import usual_preprocessing
from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.data import rows_of, tokenizer, work
from benchmarks.machine import cores
from memxlnet.load.tensors import MODEL_COLUMNS

Columns = dict[str, NDArray[Any]]


class Built(NamedTuple):
    """The result of a builder.

    Attributes:
        segments: Rows of features.
        columns: Reads the model columns of all rows, to check that all methods give the same.
    """

    segments: int
    columns: Callable[[], Columns]


def memxlnet(file: Path, folder: Path, batch: int) -> Built:
    """Call `process_and_cache_dataset` on the JSON file, with its default workers and chunks."""
    from memxlnet import LazySquadLikeQADataset, process_and_cache_dataset

    segments = process_and_cache_dataset(
        file, "train", folder, None, MAX_SEQ_LENGTH, DOC_STRIDE, tokenizer=tokenizer(), progress=False
    )

    def columns() -> Columns:
        (directory,) = (path for path in folder.iterdir() if not path.name.startswith("."))
        dataset = LazySquadLikeQADataset.open(directory)
        return {name: values.numpy() for name, values in dataset.gather(range(len(dataset))).items()}

    return Built(segments, columns)


def datasets_map(file: Path, folder: Path, batch: int) -> Built:
    """Call `datasets.map` with the usual function, batched, one process per core, on its Arrow copy of the source."""
    import datasets

    datasets.disable_progress_bars()
    examples = datasets.load_from_disk(arrow_source(file))
    mapped = examples.map(
        usual_preprocessing(tokenizer(), MAX_SEQ_LENGTH, DOC_STRIDE),
        batched=True,
        batch_size=batch,
        num_proc=cores() if cores() > 1 else None,
        remove_columns=examples.column_names,
        load_from_cache_file=False,
        cache_file_name=str(folder / "mapped.arrow"),
    )

    def columns() -> Columns:
        return _of_batches(mapped.with_format("numpy").iter(batch))

    return Built(len(mapped), columns)


def arrow_source(file: Path) -> str:
    """Return the folder of a file's examples as an Arrow dataset of `datasets`; written on first use."""
    import datasets

    folder = work() / "datasets" / file.stem
    if not folder.is_dir():
        datasets.disable_progress_bars()
        temporary = folder.with_name(f"{folder.name}.tmp")
        datasets.Dataset.from_list(rows_of(file)).save_to_disk(temporary)
        temporary.rename(folder)
    return str(folder)


def pair_call(file: Path, folder: Path, batch: int) -> Built:
    """Call transformers' tokenizer on batches of pairs and find the answer spans; keep and write nothing."""
    segments = sum(len(found["input_ids"]) for found in _encoded(file, batch))
    return Built(segments, lambda: _of_batches(_encoded(file, batch)))


def traditional(file: Path, folder: Path, batch: int) -> Built:
    """Keep all features in RAM as dictionaries, convert them to tensors, and write these in one call."""
    features: list[dict[str, Any]] = []
    for found in _encoded(file, batch):
        names = list(found)
        features += [dict(zip(names, row, strict=True)) for row in zip(*found.values(), strict=True)]
    path, number = folder / "features.pt", len(features)
    ids = [one.pop("example_id") for one in features]
    tensors = {name: torch.tensor([one[name] for one in features]) for name in features[0]}
    torch.save({**tensors, "example_id": ids}, path)
    return Built(number, lambda: {name: tensors[name].numpy() for name in MODEL_COLUMNS})


def _encoded(file: Path, batch: int) -> Iterator[dict[str, Any]]:
    """Yield the features of each batch of examples."""
    prepare = usual_preprocessing(tokenizer(), MAX_SEQ_LENGTH, DOC_STRIDE)
    rows = rows_of(file)
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        yield dict(prepare({name: [row[name] for row in some] for name in some[0]}))


def _of_batches(batches: Any) -> Columns:
    parts: dict[str, list[Any]] = {name: [] for name in MODEL_COLUMNS}
    for batch in batches:
        for name in MODEL_COLUMNS:
            parts[name].append(np.asarray(batch[name]))
    return {name: np.concatenate(found) for name, found in parts.items()}


BUILDERS: dict[str, Callable[[Path, Path, int], Built]] = {
    "memxlnet": memxlnet,
    "datasets.map": datasets_map,
    "pair call": pair_call,
    "traditional": traditional,
}
