"""What a type checker knows of a user's script: the items of loaders by their options, and the words of options."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

SETTINGS = """
[mypy]
strict = true

[mypy-torch.*,transformers.*,datasets.*,tokenizers.*,huggingface_hub.*,pyarrow.*,fsspec.*,psutil.*,tqdm.*,orjson.*]
follow_imports = skip
ignore_missing_imports = true

[mypy-memxlnet.*,arrow_schemas.*]
ignore_errors = true
"""
"""Without the libraries below it the script is checked in seconds; their types are then unknown."""

SCRIPT = """
import json
from pathlib import Path
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import memxlnet
from memxlnet import Batch, Cache, CacheDataset, Group, RegularDataLoader, Step, TimeStepMajorDataLoader
from memxlnet import create_dataloader, create_evaluation_dataloader


def items(cache: Cache, data: CacheDataset) -> None:
    assert_type(cache.loader(), TimeStepMajorDataLoader[Group])
    assert_type(cache.loader(8, True, lanes="aligned", max_segments=[1, 2]), TimeStepMajorDataLoader[Group])
    assert_type(cache.loader(8, lanes="refilled"), TimeStepMajorDataLoader[Step])
    assert_type(cache.evaluation_loader(dataset=data), TimeStepMajorDataLoader[Group])
    assert_type(cache.evaluation_loader(lanes="refilled"), TimeStepMajorDataLoader[Step])
    assert_type(TimeStepMajorDataLoader(data, 8, True, 3), TimeStepMajorDataLoader[Group])
    assert_type(TimeStepMajorDataLoader(data, lanes="refilled"), TimeStepMajorDataLoader[Step])
    assert_type(TimeStepMajorDataLoader(data, compat="memxlnet-0"), TimeStepMajorDataLoader[Any])
    assert_type(create_dataloader(data, 8, shuffle=True, seed=3), TimeStepMajorDataLoader[Group])
    assert_type(create_dataloader(data, lanes="refilled", padding="longest"), TimeStepMajorDataLoader[Step])
    assert_type(create_dataloader(data, use_time_step_major=False, timeout=1.0), RegularDataLoader[Batch])
    assert_type(create_evaluation_dataloader(data), TimeStepMajorDataLoader[Group])
    assert_type(create_evaluation_dataloader(data, lanes="refilled"), TimeStepMajorDataLoader[Step])
    assert_type(create_evaluation_dataloader(data, use_time_step_major=False), RegularDataLoader[Batch])
    built = create_evaluation_dataloader("squad_v2", "validation", None)
    assert_type(built, tuple[CacheDataset, TimeStepMajorDataLoader[Group]])
    assert_type(cache.segment_loader(4, True), RegularDataLoader[Batch])
    assert_type(next(cache.loader(lanes="refilled").endless()), Step)


def keys(cache: Cache) -> None:
    for group in cache.loader(metadata=["question", "offset_mapping"]):
        assert_type(group, Group)
        assert_type(group[0], Step)
        for step in group:
            assert_type(step["num_active"], int)
            assert_type(step["question"], list[str | None])
            assert_type(step["offset_mapping"], list[NDArray[np.int32] | None])
            step["inputs_ids"]  # type: ignore[typeddict-item]
        group["input_ids"]  # type: ignore[call-overload]
    for batch in cache.segment_loader(metadata=("context",)):
        assert_type(batch, Batch)
        assert_type(batch["context"], list[str])
        batch["reset"]  # type: ignore[typeddict-item]


def words(cache: Cache, data: CacheDataset) -> None:
    cache.loader(metadata="question")  # type: ignore[arg-type]
    cache.loader(metadata=["title"])
    cache.loader(lanes="refiled")  # type: ignore[call-overload]
    cache.loader(max_n_segs=1)  # type: ignore[call-overload]
    cache.segment_loader(metadata="question")  # type: ignore[arg-type]
    cache.evaluation_loader(shuffle=True)  # type: ignore[call-overload]
    memxlnet.Collate(metadata="question")  # type: ignore[arg-type]
    TimeStepMajorDataLoader(data, metadata="question")  # type: ignore[arg-type]
    create_dataloader(data, metadata="question")  # type: ignore[arg-type]


def without_parameters(loader: TimeStepMajorDataLoader, cache: Cache) -> int:
    memxlnet.remove_cache(cache)
    return sum(step["num_active"] for group in loader for step in group)


def resumed(cache: Cache, path: Path) -> None:
    loader = cache.loader(8, shuffle=True)
    if path.exists():
        loader.load_state_dict(json.loads(path.read_text()))
    for group in loader:
        for step in group:
            print(step["rows"], loader.epoch_size().padding_share)
        path.write_text(json.dumps(loader.state_dict()))
"""


def test_a_script_is_typed_and_its_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", "cache", "--no-error-summary", "script.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
