"""Names of the earlier code base that are gone say what took their place, however they are asked for."""

import importlib
import pickle
from pathlib import Path
from typing import Any

import pytest

from memxlnet.data.cache_manager import ChunkedCacheManager
from memxlnet.earlier_names import GONE, missing

_ROOMS = ("chunked_dataset", "dataset", "streaming", "text_utils")
MODULES = ["memxlnet", "memxlnet.data", *(f"memxlnet.data.{n}" for n in _ROOMS)]
README = "memxlnet/data/README.md"


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", GONE)
def test_a_name_that_is_gone_says_what_to_use_as_an_attribute_and_in_an_import(module: str, name: str) -> None:
    expected = f"cannot import name {name!r} from {module!r}; {GONE[name]}"
    loaded = importlib.import_module(module)
    with pytest.raises(ImportError) as asked:
        getattr(loaded, name)
    with pytest.raises(ImportError) as imported:
        exec(f"from {module} import {name}")
    assert str(asked.value) == str(imported.value) == expected
    assert imported.value.name == module


@pytest.mark.parametrize("module", MODULES)
def test_any_other_name_points_to_the_table(module: str) -> None:
    loaded = importlib.import_module(module)
    with pytest.raises(AttributeError, match=rf"'{module}'.*'Earlier'.*{README}"):
        _ = loaded.Earlier
    assert not hasattr(loaded, "Earlier")
    assert getattr(loaded, "Earlier", None) is None
    with pytest.raises(ImportError, match="'Earlier'"):
        exec(f"from {module} import Earlier")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["__path_", "_private", "__wrapped__"])
def test_names_that_tools_look_for_get_a_short_answer(module: str, name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(importlib.import_module(module), name)
    assert str(caught.value) == f"module '{module}' has no attribute '{name}'"


@pytest.mark.parametrize("name", ["SegmentSelector", "Earlier"])
def test_the_errors_survive_pickling(name: str) -> None:
    made = missing("memxlnet.data", name)
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again)) == (type(made), str(made))


def test_a_method_that_is_gone_says_what_to_use(tmp_path: Path) -> None:
    manager: Any = ChunkedCacheManager(tmp_path)
    with pytest.raises(AttributeError, match=r"'ChunkedCacheManager'.*'save_chunk'") as caught:
        manager.save_chunk([], "squad", "train", 0)
    assert str(caught.value).endswith(GONE["save_chunk"])
    assert not hasattr(manager, "earlier")
