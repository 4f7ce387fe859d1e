import copy
import gc
import os
from collections.abc import Iterator

# Before transformers, datasets or tokenizers are loaded: no test may reach for a hub, and none prints a fork warning.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from transformers import AutoTokenizer, XLNetTokenizerFast

from memxlnet.sample import sample_tokenizer_directory
from tests.support import XLNET, interruptible, need_real_data

settings.register_profile("ci", deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
settings.register_profile("deep", deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_finish() -> None:
    """Take what is loaded by now out of garbage collection, which would go through millions of objects each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk(pytestconfig: pytest.Config) -> Iterator[None]:
    """Let `os.fsync` only check its descriptor in the quick tests: a build calls it eleven times, and none cuts power.

    The slow tests, and processes that a test spawns, keep the real one.
    """
    with pytest.MonkeyPatch.context() as patched:
        if pytestconfig.getoption("markexpr") == "not slow":
            patched.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture
def tokenizer() -> Any:
    """The bundled tokenizer in XLNet's layout, fresh for each test."""
    return AutoTokenizer.from_pretrained(sample_tokenizer_directory())


@pytest.fixture(scope="session")
def loaded_xlnet() -> Any:
    """The real XLNet tokenizer, to be copied: a copy takes less than half the time of a load."""
    need_real_data()
    return XLNetTokenizerFast.from_pretrained(XLNET)


@pytest.fixture
def xlnet(loaded_xlnet: Any) -> Any:
    """The real XLNet tokenizer, fresh for each test; skips where the data is absent."""
    return copy.deepcopy(loaded_xlnet)


@pytest.fixture(name="interruptible")
def interruptible_() -> Iterator[None]:
    with interruptible():
        yield
