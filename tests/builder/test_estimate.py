"""The size of a cache beforehand: exact where all of the source was looked at, near beyond."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder import estimate as module
from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.builder import Build, build_cache
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.estimate import SizeEstimate, check_space, estimate_size, free_bytes
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import BuildError, ExampleError, MemoryLimitError, SourceError
from memxlnet.format.manifest import Manifest, read_manifest
from memxlnet.sample import sample_file
from memxlnet.settings import BuildSettings, EncodeSettings
from tests.support import SQUAD, example, long_examples, slow, write_json_lines

BUILD = BuildSettings(num_workers=0, progress=False)
HEADERS = 16 * 1024
"""Bytes of a cache beside its rows: schemas, footers and padding of three files."""


def job(source: Any, tokenizer: Any, cache_dir: Path, options: Any = None, **settings: Any) -> Build:
    settings = {"max_seq_length": 64, "doc_stride": 16, **settings}
    return Build(source, "test", tokenizer, EncodeSettings(**settings), cache_dir, options)


def built(work: Build, cache_dir: Path) -> Manifest:
    return read_manifest(build_cache(work, BUILD, CacheWriter(cache_dir)).directory)


def assert_near(estimate: SizeEstimate, manifest: Manifest, share: float) -> None:
    """Segments within a share of what was built; bytes within the same share and some headers."""
    assert estimate.examples is not None
    assert estimate.features is not None
    assert estimate.num_bytes is not None
    rows = manifest.tables["features"].rows
    assert abs(estimate.features - rows) <= share * rows
    assert abs(estimate.num_bytes - manifest.num_bytes) <= share * manifest.num_bytes + HEADERS


def even_examples(count: int) -> list[dict[str, Any]]:
    """Examples of about equal length, as those of a real source are on the whole."""
    return [example(f"Document {100 + number}. " + "some words of it " * 40, id=str(number)) for number in range(count)]


# --- within the sample


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_seq_length": 48, "doc_stride": 20},
        {"max_seq_length": 384, "doc_stride": 0},
        {"max_n_segs": 2},
        {"max_examples": 7},
        {"max_examples": 10**20},
    ],
)
@pytest.mark.parametrize("memory", [slow(0), 3])
def test_it_is_exact_where_the_sample_is_the_whole_source(
    tokenizer: Any, tmp_path: Path, settings: dict[str, Any], memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory:
        configure_memory_tokens(tokenizer, memory)
    work = job(write_json_lines(tmp_path / "long.jsonl", long_examples(18, words=100)), tokenizer, tmp_path, **settings)
    estimate = estimate_size(work, BUILD)
    sizes: list[int] = []
    monkeypatch.setattr(
        BuildDirectory,
        "remove_chunks",
        lambda self: sizes.extend(path.stat().st_size for path in self.chunks.iterdir()),
    )
    manifest = built(work, tmp_path)
    examples = min(settings.get("max_examples", 18), 18)
    assert (estimate.sampled, estimate.examples, estimate.is_whole) == (examples, examples, True)
    assert estimate.features == manifest.tables["features"].rows
    assert_near(estimate, manifest, 0.02)
    assert estimate.num_bytes is not None
    assert estimate.chunk_bytes is not None
    assert estimate.chunk_bytes == pytest.approx(sum(sizes), rel=0.02)
    assert estimate.peak_bytes == estimate.num_bytes + estimate.chunk_bytes


def test_contexts_that_examples_share_count_once(tokenizer: Any, tmp_path: Path) -> None:
    work = job(sample_file(), tokenizer, tmp_path)
    estimate = estimate_size(work, BUILD)
    assert (estimate.sampled, estimate.is_whole) == (96, True)
    assert_near(estimate, built(work, tmp_path), 0.02)


def test_bad_examples_that_are_dropped_take_no_room(tokenizer: Any, tmp_path: Path) -> None:
    rows = long_examples(6)
    rows[2]["context"] = 5
    rows[4]["question"] = "word " * 99
    source = write_json_lines(tmp_path / "bad.jsonl", rows)
    work = job(source, tokenizer, tmp_path, on_bad_example="drop")
    estimate = estimate_size(work, BUILD)
    manifest = built(work, tmp_path)
    assert manifest.dropped_examples == 2
    assert (estimate.examples, estimate.features) == (6, manifest.tables["features"].rows)
    with pytest.raises(ExampleError, match="'id-2'"):
        estimate_size(job(source, tokenizer, tmp_path), BUILD)


# --- beyond the sample


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_what_is_beyond_the_sample_is_scaled_up(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(module, "SAMPLE_EXAMPLES", 25)
    work = job(write_json_lines(tmp_path / f"even.{suffix}", even_examples(200)), tokenizer, tmp_path)
    estimate = estimate_size(work, BUILD)
    assert (estimate.sampled, estimate.examples, estimate.is_whole) == (25, 200, False)
    assert work.source.total == 200
    assert_near(estimate, built(work, tmp_path), 0.1)


@pytest.mark.parametrize(("most", "examples"), [(24, 24), (25, 25), (26, 26), (60, 60), (1000, 100)])
def test_the_number_of_examples_that_are_read_counts(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, examples: int
) -> None:
    monkeypatch.setattr(module, "SAMPLE_EXAMPLES", 25)
    source = write_json_lines(tmp_path / "long.jsonl", long_examples(100, words=30))
    estimate = estimate_size(job(source, tokenizer, tmp_path, max_examples=most), BUILD)
    assert (estimate.sampled, estimate.examples) == (min(most, 25), examples)


def test_a_source_without_a_length(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(long_examples(30, words=30))

    whole = estimate_size(job(Rows(), tokenizer, tmp_path), BUILD)
    assert (whole.sampled, whole.examples, whole.is_whole) == (30, 30, True)
    monkeypatch.setattr(module, "SAMPLE_EXAMPLES", 10)
    part = estimate_size(job(Rows(), tokenizer, tmp_path), BUILD)
    assert part == SizeEstimate(10, None, None, None, None, False)
    assert part.peak_bytes is None
    # A bound is no length: there may be far less.
    assert estimate_size(job(Rows(), tokenizer, tmp_path, max_examples=20), BUILD) == part


def test_a_count_below_the_sample_is_not_believed(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Keys may be written with escapes, which the count does not see.
    rows = [str(row).replace("'", '"') for row in long_examples(30, words=5)]
    path = tmp_path / "escaped.jsonl"
    path.write_text("\n".join(row.replace('"question"', r'"qu\u0065stion"') for row in rows))
    monkeypatch.setattr(module, "SAMPLE_EXAMPLES", 10)
    work = job(path, tokenizer, tmp_path)
    estimate = estimate_size(work, BUILD)
    assert (work.source.total, estimate.sampled, estimate.examples) == (0, 10, 10)
    assert built(work, tmp_path).tables["documents"].rows == 30


@pytest.mark.real_data
@pytest.mark.parametrize("settings", [{}, slow({"max_seq_length": 128, "doc_stride": 32})])
def test_it_is_near_on_real_data(xlnet: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    work = job(SQUAD, xlnet, tmp_path, **{"max_seq_length": 384, "doc_stride": 128, **settings})
    estimate = estimate_size(work, BUILD)
    manifest = built(work, tmp_path)
    assert not estimate.is_whole
    assert estimate.examples == manifest.tables["documents"].rows
    assert_near(estimate, manifest, 0.25)


# --- what it costs


def test_an_empty_source_is_an_error(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^in-memory/test:"):
        estimate_size(job([], tokenizer, tmp_path), BUILD)


def test_what_does_not_fit_the_memory_is_not_encoded(tokenizer: Any, tmp_path: Path) -> None:
    work = job(long_examples(3), tokenizer, tmp_path, max_seq_length=2**31 - 1)
    with pytest.raises(MemoryLimitError, match=r"'id-0'.*\b48\.00\b"):
        estimate_size(work, BUILD)


def test_the_sample_is_what_one_chunk_may_hold(tokenizer: Any, tmp_path: Path) -> None:
    work = job(even_examples(50), tokenizer, tmp_path)
    small = estimate_size(work, BuildSettings(max_memory_gb=0.02))
    assert 1 < small.sampled < 50
    assert (small.examples, small.is_whole) == (50, False)
    assert_near(small, built(work, tmp_path), 0.1)


def test_nothing_is_written(tokenizer: Any, tmp_path: Path) -> None:
    source = write_json_lines(tmp_path / "long.jsonl", long_examples(3))
    work = job(source, tokenizer, tmp_path / "caches")
    check_space(work, estimate_size(work, BUILD), tmp_path / "caches")
    assert list(tmp_path.iterdir()) == [source]


# --- room on the disk


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: free)


ESTIMATE = SizeEstimate(sampled=1, examples=1, features=1, num_bytes=1000, chunk_bytes=1100, is_whole=True)


def test_the_peak_must_fit(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = job([example("Some context.")], tokenizer, tmp_path)
    set_free(monkeypatch, 2100)
    check_space(work, ESTIMATE, tmp_path)
    set_free(monkeypatch, 2099)
    with pytest.raises(BuildError, match=r"2,100.*1,000.*2,099"):
        check_space(work, ESTIMATE, tmp_path)


def test_what_is_written_already_counts(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = job([example("Some context.")], tokenizer, tmp_path)
    chunks = tmp_path / f".build-{work.settings.directory_name}" / "chunks"
    chunks.mkdir(parents=True)
    (chunks / "0").write_bytes(b"x" * 900)
    set_free(monkeypatch, 1200)
    folders = sum(path.stat().st_size for path in (chunks,))
    check_space(work, ESTIMATE, tmp_path)
    set_free(monkeypatch, 1199 - folders)
    with pytest.raises(BuildError):
        check_space(work, ESTIMATE, tmp_path)


def test_an_unknown_size_is_not_refused(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(monkeypatch, 0)
    unknown = SizeEstimate(sampled=1, examples=None, features=None, num_bytes=None, chunk_bytes=None, is_whole=False)
    check_space(job([example("Some context.")], tokenizer, tmp_path), unknown, tmp_path)


def test_free_bytes_of_a_directory_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return type("Usage", (), {"free": 7})

    monkeypatch.setattr("shutil.disk_usage", usage)
    (tmp_path / "file").touch()
    for directory in (tmp_path, tmp_path / "a" / "b", tmp_path / "file", tmp_path / ("x" * 300)):
        assert free_bytes(directory) == 7
    assert asked == [tmp_path] * 4
