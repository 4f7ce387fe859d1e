"""Names of the earlier code base that are gone, and what took their place."""

_MEMORY = (
    "memory tokens are in every segment since the build: call configure_memory_tokens before it; their places are the "
    "mem_read_start and mem_write_start of a step"
)
_TEXT = (
    "texts go in and come out exactly as the source gives them, so nothing repairs or normalizes them; answers are "
    "compared by memxlnet.normalize_answer"
)

GONE = {
    "MemoryCollateConfig": _MEMORY,
    "memory_collate_config": _MEMORY,
    "text_utils": _TEXT,
}
"""What to use instead, by the name that is gone."""

_CLASSES = frozenset({"MemoryCollateConfig"})

_TABLE = "the section 'Coming from the earlier code base' of the README names what took the place of earlier names"


def missing(module: str, name: str) -> AttributeError | ImportError:
    """The error for a name that a module does not have, which says what to use instead.

    An `ImportError` for a class that is gone: of an `AttributeError`, ``from module import name`` shows no text.
    """
    if name in _CLASSES:
        return ImportError(f"cannot import name {name!r} from {module!r}; {GONE[name]}", name=module)
    # Nothing is told of the names that Python and tools look for, such as __path__.
    told = "" if name.startswith("_") else f"; {GONE.get(name, _TABLE)}"
    return AttributeError(f"module {module!r} has no attribute {name!r}{told}", name=name)
