"""Names of the earlier code base that are gone say what took their place, however they are asked for."""

import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from memxlnet.earlier_names import GONE, missing
from memxlnet.errors import SettingsError
from memxlnet.load.create import create_dataloader
from tests.support import build, example

MODULES = ["memxlnet", "memxlnet.data", "memxlnet.data.dataset", "memxlnet.data.streaming"]
README = "the section 'Coming from the earlier code base' of the README"


@pytest.mark.parametrize("module", MODULES)
def test_a_class_that_is_gone_says_so_as_an_attribute_and_in_an_import(module: str) -> None:
    expected = f"cannot import name 'MemoryCollateConfig' from '{module}'; {GONE['MemoryCollateConfig']}"
    loaded = importlib.import_module(module)
    with pytest.raises(ImportError) as asked:
        _ = loaded.MemoryCollateConfig
    assert str(asked.value) == expected
    with pytest.raises(ImportError) as imported:
        exec(f"from {module} import MemoryCollateConfig")
    assert str(imported.value) == expected
    assert imported.value.name == module
    assert "configure_memory_tokens" in expected
    assert "mem_read_start and mem_write_start" in expected


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["memory_collate_config", "text_utils"])
def test_other_names_that_are_gone_say_so(module: str, name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute '{name}'; ") as caught:
        getattr(importlib.import_module(module), name)
    assert str(caught.value).endswith(GONE[name])
    assert caught.value.name == name


@pytest.mark.parametrize(
    "statement",
    [
        "import memxlnet.data.text_utils",
        "from memxlnet.data import text_utils",
        "from memxlnet.data.text_utils import normalize_text",
        "importlib.import_module('memxlnet.data.text_utils')",
    ],
)
def test_the_module_that_is_gone_says_so_in_every_import(statement: str) -> None:
    with pytest.raises(ImportError) as caught:
        exec(statement, {"importlib": importlib})
    assert str(caught.value) == f"memxlnet.data.text_utils is gone; {GONE['text_utils']}"
    assert "memxlnet.normalize_answer" in str(caught.value)
    assert "memxlnet.data.text_utils" not in sys.modules


@pytest.mark.parametrize("module", MODULES)
def test_any_other_name_points_to_the_table(module: str) -> None:
    loaded = importlib.import_module(module)
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'Earlier'; {README}"):
        _ = loaded.Earlier
    assert not hasattr(loaded, "Earlier")
    assert getattr(loaded, "Earlier", None) is None
    with pytest.raises(ImportError, match="cannot import name 'Earlier'"):
        exec(f"from {module} import Earlier")


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("name", ["__path_", "_private", "__wrapped__"])
def test_names_that_tools_look_for_get_a_short_answer(module: str, name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(importlib.import_module(module), name)
    assert str(caught.value) == f"module '{module}' has no attribute '{name}'"


@pytest.mark.parametrize("name", ["MemoryCollateConfig", "Earlier"])
def test_the_errors_survive_pickling(name: str) -> None:
    made = missing("memxlnet.data", name)
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again)) == (type(made), str(made))


@pytest.mark.parametrize("time_step_major", [True, False])
def test_an_option_that_is_gone_says_so(tokenizer: Any, tmp_path: Path, time_step_major: bool) -> None:
    dataset = build([example("Some context.")], tokenizer, tmp_path)
    options: dict[str, Any] = {"memory_collate_config": None}
    unknown: dict[str, Any] = {"earlier": None}
    with pytest.raises(
        SettingsError, match=r"^memory_collate_config: expected an option for use_time_step_major="
    ) as caught:
        create_dataloader(dataset, use_time_step_major=time_step_major, **options)
    assert str(caught.value).endswith(f"found none of that name; {GONE['memory_collate_config']}")
    with pytest.raises(SettingsError, match=r"^earlier: .* found none of that name$"):
        create_dataloader(dataset, use_time_step_major=time_step_major, **unknown)
