import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoTokenizer

from benchmarks.readers import CONTESTANTS, Reader, installed, open_reader, pickled_reader, prepare
from memxlnet.load.tensors import MODEL_COLUMNS
from memxlnet.sample import sample_file, sample_tokenizer_directory
from tests.support import ROOT, build, slow

Batch = dict[str, torch.Tensor]

CHUNK_ROWS = 40

BATCH = 32

EXAMPLES = 8


class Prepared(NamedTuple):
    directory: Path
    folder: Path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    root = tmp_path_factory.mktemp("readers")
    tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
    dataset = build(sample_file(), tokenizer, root / "caches", max_examples=EXAMPLES)
    assert 5 * CHUNK_ROWS < len(dataset) < 10 * CHUNK_ROWS
    return Prepared(dataset.directory, root / "files")


@pytest.fixture
def expected(prepared: Prepared) -> Reader:
    return open_reader("memxlnet", prepared.directory)


# LitData ignores this warning of its tensors while it is imported, which lasts for one test.
VIEWS = pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")


@pytest.fixture(params=[pytest.param(name, marks=VIEWS if name == "LitData" else ()) for name in CONTESTANTS])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found = str(request.param)
    if not installed(found):
        pytest.skip(f"needs the library of {found}, which is not installed")
    # Several files each.
    monkeypatch.setattr(pickled_reader, "CHUNK_ROWS", CHUNK_ROWS)
    if found == "LitData":
        monkeypatch.setattr("benchmarks.readers.litdata_reader.CHUNK_BYTES", "32KB")
    return found


@pytest.fixture
def reader(name: str, prepared: Prepared) -> Reader:
    return open_reader(name, prepare(name, prepared.directory, prepared.folder))


def dtypes(name: str, expected: Reader) -> dict[str, torch.dtype]:
    """Stored types, except where the files have others."""
    stored = {column: values.dtype for column, values in expected.row(0).items()}
    return dict.fromkeys(MODEL_COLUMNS, torch.int64) if name == "pickled chunks" else stored


def assert_same(found: Batch, wanted: Batch, types: dict[str, torch.dtype]) -> None:
    assert set(found) == set(MODEL_COLUMNS)
    for column in MODEL_COLUMNS:
        assert found[column].dtype == types[column], column
        assert found[column].shape == wanted[column].shape, column
        assert torch.equal(found[column].to(torch.int64), wanted[column].to(torch.int64)), column


def contents(batches: Iterable[Batch]) -> list[tuple[Any, ...]]:
    """Every row of some batches as values that can be compared and counted."""
    rows: list[tuple[Any, ...]] = []
    for batch in batches:
        columns = [batch[column].to(torch.int64).reshape(len(batch[column]), -1).tolist() for column in MODEL_COLUMNS]
        rows += [tuple(map(tuple, values)) for values in zip(*columns, strict=True)]
    return rows


def test_the_contestants_are_those_of_the_report() -> None:
    assert CONTESTANTS == (
        "memxlnet",
        "RAM tensors",
        "pickled chunks",
        "NumPy memmap",
        "datasets, torch",
        "datasets, numpy",
        "Lance",
        "LitData",
        "Vortex",
        "tensordict",
        "ArrayRecord",
    )


def test_rows_are_the_same(name: str, reader: Reader, expected: Reader) -> None:
    assert len(reader) == len(expected)
    types = dtypes(name, expected)
    for row in (0, len(expected) - 1, 1, CHUNK_ROWS, CHUNK_ROWS - 1):
        assert_same(reader.row(row), expected.row(row), types)


@pytest.mark.parametrize("kind", ["random", "repeated", "backwards", "one"])
def test_batches_are_the_same(kind: str, name: str, reader: Reader, expected: Reader) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = {
        "random": torch.randperm(len(expected), generator=generator)[:BATCH],
        "repeated": torch.tensor([7, 7, 2, len(expected) - 1, 2, 7]),
        "backwards": torch.arange(len(expected) - 1, -1, -1)[:BATCH],
        "one": torch.tensor([5]),
    }[kind]
    assert_same(reader.batch(rows), expected.batch(rows), dtypes(name, expected))


def test_an_epoch_in_order_holds_every_row_in_order(name: str, reader: Reader, expected: Reader) -> None:
    batches = list(reader.epoch(BATCH, shuffle=False))
    start = 0
    for batch in batches:
        rows = torch.arange(start, start + len(batch["input_ids"]))
        assert_same(batch, expected.batch(rows), dtypes(name, expected))
        start += len(rows)
    assert start == len(expected)
    assert {len(batch["input_ids"]) for batch in batches[:-1]} == {BATCH}


@pytest.mark.slow
def test_a_shuffled_epoch_holds_every_row_once(name: str, reader: Reader, expected: Reader) -> None:
    everything = contents([expected.batch(torch.arange(len(expected)))])
    for _ in range(2):
        batches = list(reader.epoch(BATCH, shuffle=True))
        assert {column: values.dtype for column, values in batches[0].items()} == dtypes(name, expected)
        assert {len(batch["input_ids"]) for batch in batches[:-1]} == {BATCH}
        found = contents(batches)
        assert found != everything
        assert Counter(found) == Counter(everything)


def test_an_epoch_leaves_rows_as_they_are(name: str, reader: Reader, expected: Reader) -> None:
    next(reader.epoch(BATCH, shuffle=True))
    assert_same(reader.row(9), expected.row(9), dtypes(name, expected))


def test_files_are_written_once(name: str, prepared: Prepared) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        places = [found for found in prepared.folder.rglob("*") if found.is_file()]
        return {place: (place.stat().st_ino, place.stat().st_mtime_ns) for place in places}

    path = prepare(name, prepared.directory, prepared.folder)
    before = state()
    assert prepare(name, prepared.directory, prepared.folder) == path
    assert state() == before
    assert not list(prepared.folder.glob("*.part"))
    if name == "memxlnet":
        assert path == prepared.directory
    else:
        assert path.parent == prepared.folder


def test_files_that_are_not_whole_are_written_again(prepared: Prepared, tmp_path: Path) -> None:
    path = prepare("NumPy memmap", prepared.directory, tmp_path)
    part = path.rename(path.with_name(f"{path.name}.part"))
    (part / "input_ids.npy").write_bytes(b"")
    assert prepare("NumPy memmap", prepared.directory, tmp_path) == path
    assert len(open_reader("NumPy memmap", path)) > 0
    assert not part.exists()


def test_the_reader_of_pickled_chunks_holds_three(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled_reader, "CHUNK_ROWS", CHUNK_ROWS)
    reader = pickled_reader.PickledReader(prepare("pickled chunks", prepared.directory, prepared.folder))
    for chunk in (0, 1, 2, 0, 3, 4, 0):
        reader.row(chunk * CHUNK_ROWS)
        assert len(reader._held) <= 3
    # Chunk 0 was used in between, so that others went before it.
    assert list(reader._held) == [3, 4, 0]


def test_a_pickled_feature_has_its_metadata(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled_reader, "CHUNK_ROWS", CHUNK_ROWS)
    path = prepare("pickled chunks", prepared.directory, prepared.folder)
    features = torch.load(path / "chunk-00000.pt", weights_only=False)
    assert len(features) == CHUNK_ROWS
    feature = features[0]
    assert isinstance(feature["example_id"], str)
    assert feature["segment_index"] == 0
    assert len(feature["offset_mapping"]) == len(feature["input_ids"])
    assert all(isinstance(place, tuple) for place in feature["offset_mapping"])


LOADED = """
import sys
from pathlib import Path
from benchmarks.readers import installed, open_reader
len(open_reader(sys.argv[1], Path(sys.argv[2])).row(0))
peers = {"array_record", "datasets", "lance", "litdata", "tensordict", "vortex"}
sys.stdout.write(" ".join(peers & sys.modules.keys()))
"""


@pytest.mark.parametrize("light", ["RAM tensors", slow("NumPy memmap")])
def test_a_contestant_loads_no_library_of_another(light: str, prepared: Prepared) -> None:
    path = prepare(light, prepared.directory, prepared.folder)
    done = subprocess.run(
        [sys.executable, "-c", LOADED, light, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stdout == ""
