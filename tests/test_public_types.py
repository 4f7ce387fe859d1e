"""What public signatures mention is public: types can be imported from `memxlnet`, arguments are documented."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_overloads, get_type_hints

import pytest

import memxlnet
import memxlnet.data
from memxlnet.errors import MemxlnetError

PUBLIC: dict[str, Any] = {name: getattr(memxlnet, name) for name in memxlnet.__all__ if name != "__version__"}

GIVEN = {"DocumentIds", "DocumentMap", "Group", "MixedDataset"}
"""Classes whose objects a user gets and never makes."""

BELOW = ("memxlnet.encode.", "memxlnet.format.", "memxlnet.builder.", "memxlnet.settings")
"""What a user-written cache manager or a reader of manifests imports from its room."""

UNNAMED = {"EpochItems", "EpochSampler", "HasCache"}
"""Types that stand for any of some public ones."""


def calls(value: Any) -> Iterator[Callable[..., Any]]:
    """Yield what a user may call of a public name: a function, or the constructor and public methods of a class."""
    if not inspect.isclass(value):
        yield value
        return
    for name in dir(value):
        found = inspect.getattr_static(value, name)
        call = found.fget if isinstance(found, property) else getattr(found, "func", getattr(found, "__func__", found))
        is_named = not name.startswith("_") or name in ("__init__", "__call__", "__iter__", "__getitem__")
        is_made = name != "__init__" or value.__name__ not in GIVEN
        if is_named and is_made and inspect.isfunction(call) and call.__module__.startswith("memxlnet."):
            yield call


def hints(value: Any) -> Iterator[Any]:
    """Yield the types of all arguments, results and attributes of a public name."""
    for call in calls(value):
        for form in (call, *get_overloads(call)):
            yield from get_type_hints(form).values()
    for kind in value.__mro__ if inspect.isclass(value) else ():
        if kind.__module__.startswith("memxlnet."):
            yield from inspect.get_annotations(kind, eval_str=True).values()


def classes(hint: Any) -> Iterator[type]:
    """Yield the classes of the package in a type."""
    for each in (hint, get_origin(hint)):
        if inspect.isclass(each) and each.__module__.startswith("memxlnet."):
            yield each
    for part in get_args(hint):
        for one in part if isinstance(part, list) else [part]:
            yield from classes(one)


@pytest.mark.parametrize("name", PUBLIC)
def test_types_of_signatures_can_be_imported_from_the_package(name: str) -> None:
    found = {each.__name__ for hint in hints(PUBLIC[name]) for each in classes(hint) if is_upper(each)}
    assert found <= PUBLIC.keys() | UNNAMED


def is_upper(kind: type) -> bool:
    return not issubclass(kind, MemxlnetError) and not kind.__module__.startswith(BELOW)


def test_type_checkers_find_the_names_where_they_are_loaded_from() -> None:
    for package in (memxlnet, memxlnet.data):
        parsed = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
        (guarded,) = (node for node in parsed.body if isinstance(node, ast.If))
        imported = {
            alias.name: getattr(__import__(str(node.module), fromlist=[alias.name]), alias.name)
            for node in guarded.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert imported == {name: getattr(package, name) for name in package.__all__ if name != "__version__"}


def documented(text: str | None) -> set[str]:
    return set(re.findall(r"^ +\*{0,2}(\w+): ", text or "", re.MULTILINE))


@pytest.mark.parametrize("name", sorted({*memxlnet.__all__, *memxlnet.data.__all__} - {"__version__"}))
def test_help_describes_every_argument_of_every_form(name: str) -> None:
    value = PUBLIC.get(name) or getattr(memxlnet.data, name)
    call: Any = value.__init__ if inspect.isclass(value) else value
    is_own = inspect.isfunction(call) and call.__module__.startswith("memxlnet.")
    if not is_own or is_dataclass(value) or name in GIVEN or getattr(value, "_is_protocol", False):
        return
    forms = [inspect.signature(form).parameters for form in (call, *get_overloads(call))]
    named = {argument for form in forms for argument in form} - {"self", "args", "kwargs"}
    if len(named) < 3:
        return  # its first lines name them
    known = documented(value.__doc__)
    if "options" in known:
        known |= documented(memxlnet.TimeStepMajorDataLoader.__doc__)
    assert named - {"options"} <= known
