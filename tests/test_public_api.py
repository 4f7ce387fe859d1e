import importlib
import json
import subprocess
import sys
from typing import Any

import pytest

import memxlnet
import memxlnet.data
from tests.support import ROOT, WAIT_SECONDS

NAMES: dict[str, set[str]] = {
    "memxlnet": {
        "AnswerCeiling",
        "AnswerCollector",
        "AnswerSpan",
        "Batch",
        "BestThreshold",
        "Cache",
        "CacheDataset",
        "CacheManager",
        "CacheStatistics",
        "CarriedState",
        "ChunkedCacheManager",
        "Collate",
        "DataTable",
        "DocumentIds",
        "DocumentMap",
        "DocumentPrediction",
        "Documents",
        "EpochSize",
        "EvaluationOptions",
        "ExpiredCache",
        "Form",
        "FormOptions",
        "Group",
        "GroupedRows",
        "Interval",
        "LazySquadLikeQADataset",
        "Leftover",
        "LoaderOptions",
        "Manifest",
        "MemoryCollateConfig",
        "MemoryFigures",
        "MemoryReport",
        "MemxlnetError",
        "MixedDataset",
        "OldCache",
        "PaddingShares",
        "Parts",
        "RegularDataLoader",
        "RunComparison",
        "ScoringOptions",
        "ShuffledRows",
        "SquadLikeQADataset",
        "Step",
        "StreamingSquadProcessor",
        "TimeStepMajorDataLoader",
        "TrainTestSplit",
        "TrainingOptions",
        "UsefulShares",
        "__version__",
        "answer_ceiling",
        "balance",
        "best_threshold",
        "compare_runs",
        "concatenate",
        "configure_memory_tokens",
        "create_dataloader",
        "create_dataset_from_cache",
        "create_evaluation_dataloader",
        "errors_table",
        "find_expired_caches",
        "find_leftovers",
        "find_old_caches",
        "form_names",
        "load_dataset_from_hub",
        "loss_or_zero",
        "memory_report",
        "metric_intervals",
        "mix",
        "model_inputs",
        "normalize_answer",
        "process_and_cache_dataset",
        "pull",
        "push",
        "register_form",
        "remove_cache",
        "remove_expired_caches",
        "remove_leftovers",
        "remove_old_caches",
        "squad_metrics",
        "upload_processed_dataset_to_hub",
        "verify",
    },
    "memxlnet.data": {
        "ChunkedCacheManager",
        "ChunkedDataset",
        "LazySquadLikeQADataset",
        "MemoryCollateConfig",
        "SquadLikeQADataset",
        "StreamingSquadProcessor",
        "TimeStepMajorDataLoader",
        "configure_memory_tokens",
        "create_dataloader",
        "create_dataset_from_cache",
        "create_evaluation_dataloader",
        "create_streaming_processor",
        "load_chunked_dataset",
        "load_dataset_from_hub",
        "normalize_unicode",
        "process_and_cache_dataset",
        "upload_processed_dataset_to_hub",
    },
    "memxlnet.data.chunked_dataset": {"ChunkedDataset", "load_chunked_dataset"},
    "memxlnet.data.dataset": {
        "ChunkedCacheManager",
        "LazySquadLikeQADataset",
        "MemoryCollateConfig",
        "SquadLikeQADataset",
        "TimeStepMajorDataLoader",
        "configure_memory_tokens",
        "create_dataloader",
        "create_dataset_from_cache",
        "create_evaluation_dataloader",
        "load_dataset_from_hub",
        "process_and_cache_dataset",
        "upload_processed_dataset_to_hub",
    },
    "memxlnet.data.streaming": {"StreamingSquadProcessor", "create_streaming_processor"},
    "memxlnet.data.text_utils": {"normalize_answer_for_comparison", "normalize_unicode"},
}

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "numpy", "tokenizers")


@pytest.mark.parametrize("module", NAMES)
def test_all_names_are_there_and_are_the_same_objects(module: str) -> None:
    loaded = importlib.import_module(module)
    assert set(loaded.__all__) == NAMES[module]
    assert len(loaded.__all__) == len(set(loaded.__all__))
    for name in NAMES[module]:
        value = getattr(loaded, name)
        assert name in dir(loaded)
        if name != "__version__":
            assert value is getattr(memxlnet, name, value)
            assert value is getattr(memxlnet.data, name, value)
            assert value.__name__ == name
            assert value.__doc__


@pytest.mark.parametrize("module", NAMES)
def test_a_star_import_gives_them(module: str) -> None:
    found: dict[str, Any] = {}
    exec(f"from {module} import *", found)
    assert found.keys() >= NAMES[module]


@pytest.mark.parametrize("module", ["memxlnet", "memxlnet.data"])
def test_an_unknown_name_is_an_attribute_error(module: str) -> None:
    loaded = importlib.import_module(module)
    with pytest.raises(AttributeError, match=rf"'{module}'.*'no_such'"):
        _ = loaded.no_such
    with pytest.raises(ImportError, match="no_such"):
        exec(f"from {module} import no_such")
    assert not hasattr(loaded, "no_such")


def test_dir_is_sorted_and_whole() -> None:
    for loaded in (memxlnet, memxlnet.data):
        assert dir(loaded) == sorted(set(dir(loaded)))
        assert "__name__" in dir(loaded)


def _run(code: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import memxlnet",
        "import memxlnet.data",
        "import memxlnet, memxlnet.data; dir(memxlnet), dir(memxlnet.data), memxlnet.__all__, memxlnet.__version__",
        "import memxlnet.errors, memxlnet.settings, memxlnet.sample; memxlnet.sample.sample_file()",
        "import contextlib, io, memxlnet.cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    memxlnet.cli.main(['quickstart', '--help'])",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    assert (
        _run(f"{code}\nimport sys, json\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))") == []
    )


def test_a_name_is_kept_once_it_is_loaded() -> None:
    code = """
import json, sys, memxlnet, memxlnet.data
before = "configure_memory_tokens" in vars(memxlnet)
first = memxlnet.configure_memory_tokens
print(json.dumps([before, vars(memxlnet)["configure_memory_tokens"] is first,
                  memxlnet.data.configure_memory_tokens is first, "torch" in sys.modules]))
"""
    assert _run(code) == [False, True, True, False]


def test_builds_need_no_torch() -> None:
    """Workers that encode must start light."""
    modules = "memxlnet.encode.encoder, memxlnet.builder.cache_writer"
    assert _run(f"import json, sys, {modules}\nprint(json.dumps('torch' in sys.modules))") is False


@pytest.mark.parametrize("package", ["memxlnet", "arrow_schemas"])
def test_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
