"""``memxlnet show``."""

from pathlib import Path
from typing import Any

import click
import pyarrow.compute as pc

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import is_terminal, json_option, print_fields, print_json, print_table, print_title, printable
from memxlnet.cli.parameters import cache_argument, shared
from memxlnet.errors import RowIndexError
from memxlnet.evaluate.cache_argument import batches_in_view, documents_in_view
from memxlnet.format.joined import JoinedCache
from memxlnet.format.opened_parts import CacheView, open_view
from memxlnet.format.part_list import is_part_list
from memxlnet.format.published import PublishedCache
from memxlnet.load.document_ids import DocumentMap
from memxlnet.load.segment_metadata import SegmentReader
from memxlnet.load.segment_windows import rows_of
from memxlnet.maintain.encoding_rules import read_content

_LABEL_COLUMNS = ("alignment", "alignment_detail", "contradiction")
_TOKEN_COLUMNS = ("position", "id", "token", "type", "start", "stop", "text", "role")


@click.command("show")
@cache_argument
@click.argument("row", type=int, required=False)
@click.option("--id", "example_id", help="Show a segment of the document with this id.")
@click.option(
    "--segment", type=int, help="Which segment of it.  [default: the first that holds the whole answer, or 0]"
)
@click.option("--contradictions", is_flag=True, help="List the documents whose labels contradict each other.")
@click.option("--tokens/--no-tokens", default=True, show_default=True, help="List the tokens.")
@json_option
@shared()
def command(
    cache: Path,
    row: int | None,
    example_id: str | None,
    segment: int | None,
    contradictions: bool,
    tokens: bool,
    as_json: bool,
) -> None:
    """Show the segment in ROW of CACHE, or one of the document with an id: texts, answer, tokens and offsets.

    Rows count from 0, negative ones from the end: memxlnet show CACHE -- -1. The tokens are those of the cache's own
    tokenizer.json. CACHE may be a list of parts (NAME.parts), whose rows count through all documents that it shows, as
    in Parts.dataset()[ROW]; the cache and the row shown are those of the part.
    """
    ways = {"ROW": row is not None, "--id": example_id is not None, "--contradictions": contradictions}
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) != 1:
        all_given = " and ".join(given) or "none of them"
        raise click.UsageError(f"expected one of ROW, --id ID and --contradictions, found {all_given}")
    if segment is not None and example_id is None:
        raise click.UsageError("--segment: applies to a document, found no --id ID with it")
    directory = find_directory(cache)
    view = open_view(directory)
    if contradictions:
        _show_contradictions(view, as_json)
        return
    found = _row_of(view, example_id, segment) if example_id is not None else _row(view, row or 0)
    shown = _read(*_in_part(view.cache, found))
    if as_json:
        print_json(shown)
        return
    if is_part_list(directory):
        print_fields({"cache": shown["cache"]})
    _print(shown)
    if tokens:
        print_title("tokens")
        rows = [tuple(token[name] for name in _TOKEN_COLUMNS) for token in shown["tokens"]]
        print_table(_TOKEN_COLUMNS, rows, ("position", "id", "type", "start", "stop"))


def _show_contradictions(view: CacheView, as_json: bool) -> None:
    """Print id, contradiction and outcome of the documents whose labels contradict each other, in their order."""
    names = ("id", "contradiction", "alignment")
    found: list[dict[str, str]] = []
    for batch in batches_in_view(view.cache, documents_in_view(view)):
        found += batch.filter(pc.not_equal(batch["contradiction"], "")).select(names).to_pylist()
    if as_json:
        print_json(found)
    else:
        print_table(names, [tuple(entry.values()) for entry in found])


def _row(view: CacheView, row: int) -> int:
    rows = range(view.cache.num_rows) if view.chosen is None else rows_of(DocumentMap(*view).documents)
    if not -len(rows) <= row < len(rows):
        raise RowIndexError(f"ROW: expected one from {-len(rows)} to {len(rows) - 1}, found {row}")
    return int(rows[row])


def _in_part(cache: PublishedCache, row: int) -> tuple[PublishedCache, int]:
    """Return the part that holds a row, and its place there."""
    for part in cache.caches if isinstance(cache, JoinedCache) else ():
        if row < part.num_rows:
            return part, row
        row -= part.num_rows
    return cache, row


def _row_of(view: CacheView, example_id: str, segment: int | None) -> int:
    cache, rows = view.cache, DocumentMap(*view)[example_id]
    if segment is None:
        return next((row for row in rows if _value(cache, "has_answer_in_segment", row)), rows[0])
    if not -len(rows) <= segment < len(rows):
        raise RowIndexError(f"--segment: expected one of the {len(rows)} of {example_id!r}, found {segment}")
    return rows[segment]


def _value(cache: PublishedCache, name: str, row: int) -> Any:
    """Return a value of the features table, a view."""
    shard, place = cache.manifest.tables["features"].shard_of(row)
    return cache.features[shard].columns[name][place]


def _read(cache: PublishedCache, row: int) -> dict[str, Any]:
    """Return everything about a segment, as JSON values."""
    segment = SegmentReader(cache).metadata(row)
    kept = {name: segment.pop(name) for name in cache.manifest.kept}
    offsets = segment.pop("offset_mapping")
    tokens = _tokens(cache, row, segment, offsets)
    context = segment.pop("context")
    in_context = [token for token in tokens if token["role"] in ("context", "answer")]
    start, stop = (in_context[0]["start"], in_context[-1]["stop"]) if in_context else (0, 0)
    answer_start, answer_stop = segment["chosen_answer_char_span"]
    document = int(_value(cache, "document", row))
    return {
        "cache": str(cache.directory),
        "row": row,
        "document": document,
        **segment,
        **{name: cache.documents.text(name, document) for name in _LABEL_COLUMNS},
        **({"kept": kept} if kept else {}),
        "start_position": int(_value(cache, "start_positions", row)),
        "end_position": int(_value(cache, "end_positions", row)),
        "context_char_span": (start, stop),
        "context": context[start:stop],
        "answer_in_context": (max(answer_start - start, 0), min(answer_stop, stop) - start)
        if start < answer_stop and answer_start < stop and answer_start >= 0
        else None,
        "tokens": tokens,
    }


def _tokens(cache: PublishedCache, row: int, segment: dict[str, Any], offsets: Any) -> list[dict[str, Any]]:
    """Return the tokens of a row that are not padding."""
    tokenizer = read_content(cache).backend
    first, count = (int(_value(cache, name, row)) for name in ("context_row_start", "context_token_count"))
    question = int(_value(cache, "question_row_start", row))
    answer = range(int(_value(cache, "start_positions", row)), int(_value(cache, "end_positions", row)) + 1)
    memory = range(cache.manifest.layout.num_memory_tokens)
    ids, mask, types = (_value(cache, name, row) for name in ("input_ids", "attention_mask", "token_type_ids"))
    found = []
    for position in range(len(ids)):
        if not mask[position]:
            continue
        start, stop = offsets[position].tolist()
        role, text = "special", ""
        if first <= position < first + count:
            role, text = "context", segment["context"][start:stop]
            if segment["has_answer_in_segment"] and position in answer:
                role = "answer"
        elif position - segment["mem_write_start"] in memory:
            role = "memory write"
        elif position - segment["mem_read_start"] in memory:
            role = "memory read"
        elif position >= question and (stop or start):
            role, text = "question", segment["question"][start:stop]
        token = tokenizer.id_to_token(int(ids[position]))
        values = (position, int(ids[position]), token, int(types[position]), start, stop, text, role)
        found.append(dict(zip(_TOKEN_COLUMNS, values, strict=True)))
    return found


def _print(shown: dict[str, Any]) -> None:
    span = shown["chosen_answer_char_span"]
    where = f"characters {span[0]} to {span[1]}" if shown["has_answer"] else "none"
    holds = "whole" if shown["has_answer_in_segment"] else "not, or not whole"
    print_fields(
        {
            "row": shown["row"],
            "id": shown["example_id"],
            "segment": f"{shown['segment_index']} of {shown['total_segments']}",
            "question": shown["question"],
            "answer": f"{shown['chosen_answer_text']!r} ({where}; this segment holds it {holds})"
            if shown["has_answer"]
            else "none",
            "alignment": ": ".join(filter(None, (shown["alignment"], shown["alignment_detail"]))),
            "contradiction": shown["contradiction"] or "none",
            "positions": f"{shown['start_position']} to {shown['end_position']} (cls {shown['cls_index']})",
            "context characters": "{} to {}".format(*shown["context_char_span"]),
            **{name: "null" if value is None else value for name, value in shown.get("kept", {}).items()},
        }
    )
    print_title("context")
    start, stop = shown["answer_in_context"] or (0, 0)
    text = shown["context"]
    before, marked, after = map(printable, (text[:start], text[start:stop], text[stop:]))
    if marked:
        marked = click.style(marked, reverse=True) if is_terminal() else f"[[{marked}]]"
    click.echo(before + marked + after)
