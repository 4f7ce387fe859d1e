"""What public signatures mention is public: its types can be imported from `memxlnet`, its arguments are documented."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin, get_overloads, get_type_hints, is_typeddict

import pytest

import memxlnet
import memxlnet.data
from memxlnet import errors

PUBLIC = {name: getattr(memxlnet, name) for name in memxlnet.__all__ if name != "__version__"}


def calls(value: Any) -> Iterator[Callable[..., Any]]:
    """Yield what a user may call of a public name: a function, or the constructor and public methods of a class."""
    if not inspect.isclass(value):
        yield value
        return
    for name in dir(value):
        found = inspect.getattr_static(value, name)
        call = found.fget if isinstance(found, property) else getattr(found, "func", getattr(found, "__func__", found))
        is_named = not name.startswith("_") or name in ("__init__", "__call__", "__iter__", "__getitem__")
        if is_named and inspect.isfunction(call) and call.__module__.startswith("memxlnet."):
            yield call


def hints(value: Any) -> Iterator[Any]:
    for call in calls(value):
        for form in (call, *get_overloads(call)):
            yield from get_type_hints(form).values()
    if is_typeddict(value) or (inspect.isclass(value) and value.__module__.startswith("memxlnet.")):
        yield from get_type_hints(value).values()


def classes(hint: Any) -> Iterator[type]:
    """Yield the classes of memxlnet in a type."""
    for each in (hint, get_origin(hint)):
        if inspect.isclass(each) and each.__module__.split(".")[0] in ("memxlnet", "arrow_schemas"):
            yield each
    for part in get_args(hint):
        yield from (each for one in (part if isinstance(part, list) else [part]) for each in classes(one))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_type_of_a_signature_can_be_imported_from_the_package(name: str) -> None:
    found = {each for hint in hints(PUBLIC[name]) for each in classes(hint)}
    assert {each for each in found if not issubclass(each, errors.MemxlnetError)} <= set(PUBLIC.values())


def forms(call: Any) -> Iterator[inspect.Parameter]:
    for form in (call, *get_overloads(call)):
        yield from inspect.signature(form).parameters.values()


@pytest.mark.parametrize("name", sorted({*memxlnet.__all__, *memxlnet.data.__all__} - {"__version__"}))
def test_help_describes_every_argument_of_every_form(name: str) -> None:
    value = PUBLIC.get(name) or getattr(memxlnet.data, name)
    if inspect.isclass(value):
        # The class documents its constructor, or it is a record whose fields are its attributes.
        pairs = [(value.__init__, value.__doc__)] if inspect.isfunction(value.__init__) else []
    else:
        pairs = [(value, value.__doc__)]
    for call, text in pairs:
        if typing.is_protocol(value) if hasattr(typing, "is_protocol") else getattr(value, "_is_protocol", False):
            continue
        documented = set(re.findall(r"^ +\*{0,2}(\w+): ", text or "", re.M))
        named = {found.name for found in forms(call)} - {"self", "args", "kwargs"}
        assert named - documented <= {"options"}, name
