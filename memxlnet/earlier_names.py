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

_TABLE = "the section 'Coming from the earlier code base' of the README names what took the place of earlier names"


def hint(name: str) -> str:
    """What to use instead of a name that is not there."""
    return GONE.get(name, _TABLE)
