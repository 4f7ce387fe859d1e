"""Building files as parts: one cache for each, found again by content, and a list that opens them as one dataset."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from arrow_schemas import SCHEMA_VERSION
from memxlnet.builder.builder import Build, build_cache, check_executor, refuse_unguarded_main
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.compaction import reading_fields
from memxlnet.builder.deliveries import Scratch
from memxlnet.builder.loss_limits import LossLimits
from memxlnet.builder.repeats_across_parts import IdDigests, hidden_documents, shown_files
from memxlnet.encode.cache_settings import ALGORITHM_VERSION, tokenizer_fields
from memxlnet.encode.examples import has_answers
from memxlnet.encode.tokenizer_content import TokenizerContent, read_tokenizer
from memxlnet.errors import CacheNotFoundError, SettingsError, SourceError
from memxlnet.format.fingerprint import canonical_json
from memxlnet.format.manifest import Manifest, known_files, read_manifest
from memxlnet.format.part_list import AnswersField, OnRepeatedIdAcrossParts, PartFile, PartList, PartRecord
from memxlnet.format.paths import MANIFEST
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.part_lists import former_list, publish_list, sole_lister
from memxlnet.progress import Heartbeat
from memxlnet.settings import BuildSettings, EncodeSettings, check_text, one_of, positive_int, settings_of
from memxlnet.sources import Files, Source, SourceOptions, open_files, place_of_files, shown_name
from memxlnet.sources.records_to_examples import Reading
from memxlnet.sources.split import split_name
from memxlnet.system_errors import source_errors

logger = logging.getLogger(__name__)


class BuiltParts(NamedTuple):
    """What a build of parts made.

    Attributes:
        directory: The directory of the list.
        parts: The list.
        built: Names of the caches that were not there before.
    """

    directory: Path
    parts: PartList
    built: list[str]


def build_parts(
    source: Any,
    split: str,
    tokenizer: Any,
    arguments: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
    executor: Executor | None = None,
    scratch: Scratch | None = None,
    *,
    files_per_part: int = 1,
    on_repeated_id: OnRepeatedIdAcrossParts = "error",
    name: str | None = None,
) -> BuiltParts:
    """Build a cache for each file that has none, and publish the list of all.

    Args:
        source: Files, as `open_files` takes them.
        split: Split of a directory; a label for other files.
        tokenizer: A transformers fast tokenizer.
        arguments: By name, the fields of `EncodeSettings`, `BuildSettings` and `SourceOptions`; others are left out.
        cache_dir: Directory of all caches.
        executor: Encodes the chunks; None encodes them here or in the package's worker processes.
        scratch: A store that holds the chunks of a part until it is published.
        files_per_part: Files of a part at most.
        on_repeated_id: What an id in two parts does; within one part it is an error.
        name: Short name of the files together; None takes that of their directory.

    Raises:
        SettingsError: An argument is wrong; raised before any work.
        ExampleError: An id is in two parts, and that is an error; the former list stays.
        MemxlnetError: Any error of `build_cache`; parts that are finished stay and are found by the next call.
    """
    # What an id in two parts does is no setting of a cache.
    encode = settings_of(EncodeSettings, {**arguments, "on_repeated_id": "error"})
    build, options = settings_of(BuildSettings, arguments), settings_of(SourceOptions, {**arguments, "name": None})
    positive_int("files_per_part", files_per_part)
    one_of("on_repeated_id", on_repeated_id, get_args(OnRepeatedIdAcrossParts))
    if name is not None:
        check_text("name", name)
    _check_whole_files(split, encode, options)
    refuse_unguarded_main()
    check_executor(executor, build)
    writer = CacheWriter(cache_dir, max_shard_rows=build.max_shard_rows, scratch=scratch)
    content = read_tokenizer(tokenizer, encode.insert_memory_tokens)
    content.layout.check(encode)
    empty = _empty_list(source, split, encode, options, content, files_per_part, on_repeated_id, name)
    directory = writer.cache_dir / empty.directory_name
    with sole_lister(directory):
        former = former_list(directory)
        named = shown_name(source)
        with source_errors(named), Heartbeat(lambda _: f"{named}: opening the files, and reading what identifies them"):
            files = open_files(source, split, options.token, known_files(writer.cache_dir))
        groups = _Groups(files, place_of_files(source)[0], files_per_part, former)
        job = _PartBuilder(directory, writer, split, tokenizer, encode, build, options, content, executor)
        known = {} if former is None or build.rebuild else {_marks(part): part for part in former.parts}
        found = job.parts(groups, known)
        hidden = hidden_documents(directory, found, on_repeated_id)
        records = tuple(replace(part, hidden=ranges) for part, ranges in zip(found, hidden, strict=True))
        parts = publish_list(directory, replace(empty, parts=records, empty=tuple(job.empty)), former)
        job.digests.keep_only([*parts.former, *(part.cache for part in parts.parts)])
    logger.info(
        "%s: %d parts, %d built, %d documents, %d of them hidden",
        directory,
        len(parts.parts),
        len(job.built),
        parts.documents,
        parts.num_hidden,
    )
    return BuiltParts(directory, parts, job.built)


def _check_whole_files(split: str, encode: EncodeSettings, options: SourceOptions) -> None:
    """Check that nothing is asked that depends on all files together.

    Raises:
        SettingsError: Something is.
    """
    if encode.max_examples is not None:
        raise SettingsError(
            f"max_examples: expected None for parts, which are whole files, found {encode.max_examples}; take(...) of "
            "the dataset gives the first documents"
        )
    if split_name(split)[1] is not None:
        raise SettingsError(f"split: expected one without a slice for parts, which are whole files, found {split!r}")
    if options.transform is not None and options.identity is None:
        raise SettingsError(
            "identity: expected a text that changes whenever the results of the transform do, found None; without one "
            "every file would be read again to find its part"
        )
    for option in ("config_name", "revision"):
        if getattr(options, option) is not None:
            raise SettingsError(
                f"{option}: applies to Hub datasets only, found {getattr(options, option)!r} with files"
            )


def _empty_list(
    source: Any,
    split: str,
    encode: EncodeSettings,
    options: SourceOptions,
    content: TokenizerContent,
    files_per_part: int,
    on_repeated_id: OnRepeatedIdAcrossParts,
    name: str | None,
) -> PartList:
    """Return the list without its parts: what its name depends on is what all parts share, and the place of the files.

    With a name of its own a list is found wherever the files lie.
    """
    folder, place = place_of_files(source)
    reading = Reading.of(options).identity(None)
    fields = {
        "schema_version": SCHEMA_VERSION,
        "algorithm_version": ALGORITHM_VERSION,
        "split": split,
        "settings": asdict(encode),
        "reading": reading if options.identity is None else {**reading, "transform": options.identity},
        "tokenizer": tokenizer_fields(content),
        "place": {"name": name} if name is not None else {"files": place},
    }
    return PartList(
        name=name or Path(folder).name or "parts",
        split=split,
        fields=json.loads(canonical_json(fields)),
        source=_named(source),
        files_per_part=files_per_part,
        on_repeated_id=on_repeated_id,
        parts=(),
    )


def _named(source: Any) -> str | tuple[str, ...]:
    """Return what was named as absolute paths, and URLs without credentials: a list must not hold any."""
    if isinstance(source, list | tuple):
        return tuple(place_of_files(one)[1] for one in source)
    return place_of_files(source)[1]


class _Groups:
    """The files of each part, in order.

    A part of the former list keeps its files as long as they are there: a file that comes or goes changes no other
    part than its own. New files fill up the part before them.
    """

    def __init__(self, files: Files, folder: str, most: int, former: PartList | None):
        self._files = files
        self._names = [_relative(path, folder) for path in files.paths]
        numbers = {} if former is None else {f.name: n for n, part in enumerate(former.parts) for f in part.files}
        self._starts = [0]
        current = numbers.get(self._names[0])
        for place, name in enumerate(self._names[1:], 1):
            number = numbers.get(name, current)
            if place - self._starts[-1] == most or number != current:
                self._starts.append(place)
            current = number

    def __iter__(self) -> Iterator[tuple[Files, list[str]]]:
        for start, stop in zip(self._starts, [*self._starts[1:], len(self._files)], strict=True):
            yield self._files.some(start, stop), self._names[start:stop]


def _relative(path: str, folder: str) -> str:
    return path.removeprefix(f"{folder}/") if folder else path


class _PartBuilder:
    """Finds or builds the cache of some files."""

    def __init__(
        self,
        directory: Path,
        writer: CacheWriter,
        split: str,
        tokenizer: Any,
        encode: EncodeSettings,
        build: BuildSettings,
        options: SourceOptions,
        content: TokenizerContent,
        executor: Executor | None,
    ):
        self.digests = IdDigests(directory)
        self._writer = writer
        self._build = build
        self._executor = executor
        self._open = (split, tokenizer, encode, None, options, content)
        self._is_known_by_files = not Reading.of(options).needs_record
        self._reading: dict[str, Any] | None = None
        self.built: list[str] = []
        self.empty: list[PartFile] = []

    def parts(self, groups: _Groups, known: Mapping[tuple[str, ...], PartRecord]) -> list[PartRecord]:
        """Return the parts of all files but those without examples; their caches are published then.

        Raises:
            SourceError: No file has an example.
            MemxlnetError: Any error of `build_cache`.
        """
        found = [(files, names, self._part(files, names, known)) for files, names in groups]
        # No list names the finished parts of a long build yet: a rule of retention may have removed some meanwhile.
        parts = [
            part if self._is_published(part) else self._part(files, names, {}) for files, names, part in found if part
        ]
        if not parts:
            raise SourceError(f"{', '.join(file.name for file in self.empty[:3])}: expected examples, found none")
        return [part for part in parts if part]

    def _is_published(self, part: PartRecord) -> bool:
        return os.path.exists(self._writer.cache_dir / part.cache / MANIFEST)  # noqa: PTH110 - a build reports errors

    def _part(self, files: Files, names: list[str], known: Mapping[tuple[str, ...], PartRecord]) -> PartRecord | None:
        """Return the part of some files, or None where they have no examples.

        Args:
            files: The files.
            names: Their names, counted from the directory of all.
            known: Parts that need not be built, by the marks of their files.

        Raises:
            MemxlnetError: Any error of `build_cache`.
        """
        listed = tuple(PartFile(name, mark) for name, mark in zip(names, files.marks, strict=True))
        former = known.get(tuple(files.marks))
        manifest = None if former is None else self._found(files, former)
        if former is not None and manifest is not None:
            LossLimits.of(self._build).check_cache(self._writer.cache_dir / former.cache, manifest)
            part = replace(former, files=listed, hidden=())
        else:
            built = self._built(files, listed)
            if built is None:
                self.empty += listed
                logger.warning("%s: no examples; no part is made of it", ", ".join(names))
                return None
            part, manifest = built
        self._check_reading(part, manifest)
        return part

    def _found(self, files: Files, part: PartRecord) -> Manifest | None:
        """Return the manifest of a listed part if it is the cache of these files, without opening them."""
        if not self._is_known_by_files:
            return None
        try:
            manifest = read_manifest(self._writer.cache_dir / part.cache)
        except CacheNotFoundError:
            return None
        source = manifest.fields["source"]
        own = {name: source[name] for name in source.keys() - reading_fields(source).keys()}
        return manifest if part.is_of(manifest) and own == files.identity() else None

    def _built(self, files: Files, listed: tuple[PartFile, ...]) -> tuple[PartRecord, Manifest] | None:
        with source_errors(files.name):
            job = Build(files, *self._open)
            if next(iter(job.source.rows()), None) is None:
                return None
        before = os.path.exists(self._writer.directory(job.settings))  # noqa: PTH110 - the build reports errors
        directory = build_cache(job, self._build, self._writer, self._executor).directory
        if self._build.rebuild or not before:
            self.built.append(directory.name)
        manifest = read_manifest(directory)
        answers_field = _answers_field(job.source)
        part = PartRecord(
            cache=directory.name,
            fingerprint=manifest.fingerprint,
            files=listed,
            rows=manifest.tables["features"].rows,
            documents=manifest.tables["documents"].rows,
            bytes=manifest.num_bytes,
            ids=self.digests.write(PublishedCache(directory)),
            form=job.source.form_name,
            answers_field=answers_field,
        )
        return part, manifest

    def _check_reading(self, part: PartRecord, manifest: Manifest) -> None:
        """Check that the files of all parts are read in one way, as those of one cache are.

        Raises:
            SourceError: They are not.
        """
        found = {**reading_fields(manifest.fields["source"]), "form": part.form}
        self._reading = self._reading or found
        if found != self._reading:
            raise SourceError(
                f"{shown_files(part)}: expected files that are read as those before, {self._reading}, found {found}; "
                "build the two apart, or name the form of all with form='...'"
            )


def _marks(part: PartRecord) -> tuple[str, ...]:
    return tuple(file.mark for file in part.files)


def _answers_field(source: Source) -> AnswersField:
    """Return which rows have the field ``answers``; a build from all files takes one after another one as bad."""
    found = {has_answers(row) for row in source.rows() if isinstance(row, Mapping)}
    return "some" if len(found) == 2 else "none" if found == {False} else "all"
