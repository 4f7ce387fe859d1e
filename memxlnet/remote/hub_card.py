"""The card of a repository on the Hub: what its caches hold, besides what people wrote into it."""

import html
import re
from typing import Any

import huggingface_hub

from arrow_schemas import SCHEMA_VERSION
from memxlnet.format.manifest import Manifest

_BEGIN = "<!-- memxlnet: begin "

_READING = ("form", "columns", "locate", "offsets")
"""Fields of a source that are options of `Cache.verify` of the same name."""

_INTRODUCTION = """
# {title}

Feature caches for question answering over long documents, made with memxlnet: each folder is one cache of Apache Arrow
files, for exactly one set of settings. Text outside the marked sections is yours; each upload of a cache
writes its section again.
"""

_LOAD = """```python
from memxlnet import Cache

cache = Cache.pull({url})
dataset, tokenizer = cache.dataset(), cache.tokenizer()
"""

_VERIFY = """
# Encode examples of {what} again, and compare.
cache.verify({arguments})
"""

_ROWS = """
# The rows as they lie in the files, without memxlnet.
import datasets

rows = datasets.load_dataset(
    "arrow", data_files="hf://datasets/{repo_id}/{folder}/features-*.arrow", split="train"
)
```"""


def described(card: str | None, repo_id: str, folder: str, manifest: Manifest) -> str:
    """Return the text of a card with a cache described in it; all else stays, except for comments in its metadata.

    Args:
        card: The card as it is; None where there is no card.
        repo_id: The repository.
        folder: The folder of the cache.
        manifest: What it holds.

    Raises:
        ValueError: The metadata of the card is not a mapping in YAML.
    """
    text = card if card is not None else _INTRODUCTION.format(title=repo_id.rpartition("/")[2])
    has_metadata = re.match(r"\s*---[ \t]*\r?\n", text) is not None
    try:
        parsed = huggingface_hub.DatasetCard(text if has_metadata else f"---\n{{}}\n---\n{text}")
    except Exception as error:  # those of its YAML library as they come
        raise ValueError(f"{type(error).__name__}: {error}") from error
    _add_metadata(parsed.data, folder, manifest)
    parsed.text = _with_section(parsed.text, folder, _section(repo_id, folder, manifest))
    return str(parsed)


def _add_metadata(data: Any, folder: str, manifest: Manifest) -> None:
    tags = _as_list(data.get("tags"))
    if "memxlnet" not in tags:
        data["tags"] = [*tags, "memxlnet"]
    if not data.get("task_categories"):
        data["task_categories"] = ["question-answering"]
    # The Hub's viewer and datasets.load_dataset(repo_id, folder) show the rows of this split by it.
    if re.fullmatch(r"\w+(\.\w+)*", manifest.split, re.ASCII):
        configs = _as_list(data.get("configs"))
        if not any(isinstance(config, dict) and config.get("config_name") == folder for config in configs):
            files = [{"split": manifest.split, "path": f"{folder}/features-*.arrow"}]
            data["configs"] = [*configs, {"config_name": folder, "data_files": files}]


def _as_list(value: Any) -> list[Any]:
    """Return as a list what may be written where a list belongs: nothing, one value, or a list."""
    return value if isinstance(value, list) else [value] if value else []


def _with_section(text: str, folder: str, section: str) -> str:
    """Return the text with the section of a cache in its place, or after the last section, or at the end."""
    begin, end = _markers(re.escape(folder))
    # Where an end was removed, what follows the begin belongs to the card's author.
    inner = f"(?:(?!{_BEGIN}).)*?"
    replaced, count = re.subn(f"{begin}{inner}{end}", lambda _: section, text, count=1, flags=re.DOTALL)
    if count:
        return replaced
    _, last = _markers("[A-Za-z0-9._-]+")
    stops = [match.end() for match in re.finditer(last, text)]
    if not stops:
        return f"{text.rstrip()}\n\n{section}\n"
    return f"{text[: stops[-1]]}\n\n{section}{text[stops[-1] :]}"


def _markers(folder: str) -> tuple[str, str]:
    return f"{_BEGIN}{folder} -->", f"<!-- memxlnet: end {folder} -->"


def _section(repo_id: str, folder: str, manifest: Manifest) -> str:
    begin, end = _markers(folder)
    lines = [f"| {name} | {_cell(value)} |" for name, value in _rows(manifest)]
    table = "\n".join(["| | |", "| --- | --- |", *lines])
    return f"{begin}\n## {folder}\n\n{table}\n\n{_code(repo_id, folder, manifest)}\n{end}"


def _code(repo_id: str, folder: str, manifest: Manifest) -> str:
    """Return how the cache is opened, and how it is compared with its source where that has an address or is a file."""
    loaded = _LOAD.format(url=_literal(f"hf://datasets/{repo_id}/{folder}"))
    return loaded + _comparison(manifest) + _ROWS.format(repo_id=repo_id, folder=folder)


def _comparison(manifest: Manifest) -> str:
    source = manifest.fields["source"]
    what, address, mark = {
        "hub": ("the source", _literal(manifest.name), "builder"),
        "file": ("your copy of the source", '"path/of/the/file.json"', "format"),
    }.get(str(source.get("kind")), ("", "", ""))
    # Without the mark the rows were digested, as those of a transform are; a form of the user's own has a version.
    if mark not in source or "transform" in source or " " in source.get("form", ""):
        return ""
    named = {"config_name": source.get("config"), **{name: source.get(name) for name in _READING}}
    options = [f"{name}={_literal(value)}" for name, value in named.items() if value]
    return _VERIFY.format(what=what, arguments=", ".join([f"against={address}", *options]))


def _rows(manifest: Manifest) -> list[tuple[str, str]]:
    rows = {name: f"{table.rows:,}" for name, table in manifest.tables.items()}
    slots = manifest.layout.num_memory_tokens
    answers = ", ".join(f"{count:,} {status}" for status, count in manifest.alignment.items())
    return [
        ("source", manifest.name),
        ("split", manifest.split),
        ("settings", ", ".join(f"{name}={value!r}" for name, value in manifest.settings.items())),
        ("fingerprint", manifest.fingerprint),
        ("tokenizer, sha256", str(manifest.fields["tokenizer"].get("sha256"))),
        ("vocabulary size", f"{manifest.vocabulary_size:,}"),
        ("memory tokens", f"{2 * slots} ({slots} that read, {slots} that write)" if slots else "none"),
        ("rows (segments)", rows["features"]),
        ("documents", rows["documents"]),
        ("contexts", rows["contexts"]),
        *([("kept columns", ", ".join(manifest.kept))] if manifest.kept else []),
        ("answers", f"{answers}, {manifest.documents_without_answer_segment:,} in no segment"),
        ("contradictions", f"{manifest.contradictions:,}"),
        ("examples dropped", f"{manifest.dropped_examples:,}"),
        ("bytes", f"{manifest.num_bytes:,}"),
        ("schema version", str(SCHEMA_VERSION)),
    ]


def _cell(value: str) -> str:
    """Return the text of a cell of a table: a source may have any name."""
    plain = html.escape(" ".join(value.split()), quote=False)
    return re.sub(r"[|\\`*\[\]]", lambda match: f"&#{ord(match[0])};", plain)


def _literal(value: Any) -> str:
    """Return a value in Python, in which no marker of a section can stand."""
    return repr(value).replace("<", "\\x3c").replace("`", "\\x60")
