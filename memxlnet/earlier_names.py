"""Names of the earlier code base that are gone, and what took their place."""

_ALIGNED = (
    "a build aligns answers and counts how (the manifest's alignment); dataset[i] gives chosen_answer_char_span and "
    "offset_mapping, in code points of the text as given"
)
_COMPARED = "compare what memxlnet.normalize_answer makes of both, or use memxlnet.squad_metrics"
_SHOWN = "nothing is normalized: texts are as the source gives them; memxlnet show prints a segment and its answer"
_MODELS = "models and training are not part of this package: keep them in your own code"

GONE = {
    "SegmentSelector": "pass window='first', 'random' or 'answer' and max_segments= to the loader",
    "DocumentMetadata": "datasets load nothing in parts: document_map gives the rows of a document",
    "PSUTIL_AVAILABLE": "psutil is always there: max_memory_gb is kept, not estimated",
    "find_answer_span_with_normalization": _ALIGNED,
    "fix_answer_positions": _ALIGNED,
    "validate_answer_positions": _ALIGNED,
    "find_all_occurrences": _ALIGNED,
    "choose_best_occurrence": _ALIGNED,
    "characterize_boundary_delta": "compat='memxlnet-0' gives rows a boundary_info",
    "map_normalized_to_original_position": _SHOWN,
    "compare_answers_fuzzy": _COMPARED,
    "unicode_answers_match": _COMPARED,
    "diagnose_unicode_mismatch": _SHOWN,
    "unicode_codepoints": _SHOWN,
    "UNICODE_TEST_CASES": _SHOWN,
    "run_unicode_tests": _SHOWN,
    "MemXLNetForQA": _MODELS,
    "DifferentiableMemory": _MODELS,
    "MemoryController": _MODELS,
    "TrainingConfig": _MODELS,
    "XLNetRecurrentTrainer": _MODELS,
    "save_chunk": "a build writes the cache: pass the manager as cache_manager of process_and_cache_dataset",
}
"""What to use instead, by the name that is gone."""

_TABLE = "the table of memxlnet/data/README.md names what took the place of earlier names"


def missing(module: str, name: str) -> AttributeError | ImportError:
    """Return the error for a name that a module does not have, with what to use instead.

    An `ImportError` for a name that is gone: of an `AttributeError`, ``from module import name`` shows no text.
    """
    if name in GONE:
        return ImportError(f"cannot import name {name!r} from {module!r}; {GONE[name]}", name=module)
    # Python and tools look for names such as __path__.
    hint = "" if name.startswith("_") else f"; {_TABLE}"
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}", name=name)


def missing_attribute(owner: object, name: str) -> AttributeError:
    """Return the error for an attribute that an object does not have, with what to use instead where it is gone."""
    hint = f"; {GONE[name]}" if name in GONE else ""
    return AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=owner)
