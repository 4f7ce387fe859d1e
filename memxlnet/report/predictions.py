"""The predictions of a run as they are passed: texts, or n-best lists, by id; in a mapping or a JSON file."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from memxlnet.errors import SettingsError
from memxlnet.format.paths import as_path
from memxlnet.report.scores import listed
from memxlnet.system_errors import described, hint_for

_FORMS = "{id: text} or {id: [{text, probability}, ...]}"


class Candidate(NamedTuple):
    """One entry of an n-best list.

    Attributes:
        text: The answer, empty for no answer.
        probability: From 0 to 1.
        span: Where it stands in the context: code points, half-open; None where the list has no place of its length.
    """

    text: str
    probability: float
    span: tuple[int, int] | None


@dataclass(frozen=True)
class Given:
    """The predictions of a run.

    Attributes:
        name: Name of the run: that of the file without its suffix, or of the argument.
        texts: The predictions by id; of an n-best list its most probable one, the first of equals.
        n_best: The lists by id, the most probable first; empty where texts were passed.
    """

    name: str
    texts: dict[str, str]
    n_best: dict[str, list[Candidate]] = field(default_factory=dict)


def read_predictions(argument: str, value: Any) -> Given:
    """Return predictions: a mapping, or a file as the official SQuAD script or transformers writes it.

    Args:
        argument: Name of the argument, for messages.
        value: What was passed.

    Raises:
        SettingsError: It is neither, the file cannot be read, or a prediction is no text and no n-best list.
    """
    name, place, found = argument, argument, value
    if not isinstance(value, Mapping):
        path = as_path(argument, value, "a mapping of texts or n-best lists by id, or a JSON file of one")
        name, place = path.stem, f"{argument}: {path}"
        found = _read_json(place, path)
    if not isinstance(found, Mapping):
        raise SettingsError(f"{place}: expected one JSON object, {_FORMS}, found {type(found).__name__}")
    if isinstance(next(iter(found.values()), None), list | tuple):
        n_best = {_checked_id(place, one): _candidates(place, one, entries) for one, entries in found.items()}
        return Given(name, {one: entries[0].text for one, entries in n_best.items()}, n_best)
    return Given(name, {_checked_id(place, one): _text(place, repr(one), text) for one, text in found.items()})


def _checked_id(place: str, example_id: object) -> str:
    if not isinstance(example_id, str):
        raise SettingsError(
            f"{place}: expected a text as each id, found {example_id!r:.120}; pass the ids of the cache"
        )
    return example_id


def _text(place: str, where: str, text: object) -> str:
    if not isinstance(text, str):
        raise SettingsError(f"{place}: expected a text for {where:.140}, found {text!r:.80}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        shown = f"{text!r:.80} (half of a surrogate pair)"
        raise SettingsError(f"{place}: expected valid Unicode for {where:.140}, found {shown}")
    return text


def _candidates(place: str, example_id: str, entries: object) -> list[Candidate]:
    """Return an n-best list, the most probable entry first."""
    if not isinstance(entries, list | tuple) or not entries:
        shown = "an empty list" if isinstance(entries, list | tuple) else f"{entries!r:.80}"
        raise SettingsError(f"{place}: expected an n-best list for {example_id!r:.120}, found {shown}")
    found = [_candidate(place, f"entry {at} of {example_id!r:.120}", entry) for at, entry in enumerate(entries)]
    return sorted(found, key=lambda each: -each.probability)


def _candidate(place: str, where: str, entry: object) -> Candidate:
    if not isinstance(entry, Mapping) or not {"text", "probability"} <= entry.keys():
        raise SettingsError(f"{place}: expected text and probability in {where}, found {entry!r:.80}")
    text, probability = _text(place, where, entry["text"]), entry["probability"]
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise SettingsError(f"{place}: expected a probability from 0 to 1 in {where}, found {probability!r:.80}")
    start, stop = entry.get("char_start"), entry.get("char_stop")
    span = None
    # Slices end with their text, so that a place past its end could match.
    if type(start) is int and type(stop) is int and 0 <= start < stop == start + len(text):
        span = start, stop
    return Candidate(text, float(probability), span)


def _read_json(place: str, path: Path) -> Any:
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=lambda pairs: _once(place, pairs))
    except OSError as error:
        raise SettingsError(
            f"{place}: expected a file that can be read: {described(error, path)}; {hint_for(error)}"
        ) from error
    except SettingsError:
        raise
    except (ValueError, RecursionError) as error:
        raise SettingsError(
            f"{place}: expected a JSON file of predictions, {_FORMS}, found another one: {error}"
        ) from error


def _once(place: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, each of whose keys may occur once: of two predictions one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise SettingsError(
            f"{place}: expected each id, and each field of an entry, once, found {listed(repeated)} again in "
            f"{found!r:.80}; keep one of them"
        )
    return found
