"""Retention: what a rule keeps stays, what it does not keep goes whole, and what is in use waits."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.errors import CacheNotFoundError, SettingsError
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.lock import builder_lock, lock_path
from memxlnet.maintain.removal import remove_directory
from memxlnet.maintain.retention import find_expired_caches, remove_expired_caches
from tests.format.content import chunks, files_of, make_content, settings

CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2), None])
NIGHTLY = ("docs-20250101", "docs-2025-01-02", "docs_20250103T0400", "docs.2025-01-04T04:00:00Z")
DAY = 86_400


def aged(cache_dir: Path, name: str, days: float, **changes: Any) -> Path:
    """A cache whose manifest was written so many days ago."""
    made = settings(4, name=name, **changes)
    writer = CacheWriter(cache_dir)
    with writer.lock(made):
        writer.begin(made)
        receipts = [writer.write_chunk(index, tables) for index, tables in enumerate(chunks(CONTENT, [2]))]
        directory = writer.finish(receipts).directory
    written = time.time() - days * DAY
    os.utime(directory / "manifest.json", (written, written))
    return Path(directory)


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    """Four builds of a dated name, the last of them also of another split, and two of other names."""
    for days, name in zip((40, 30, 20, 10), NIGHTLY, strict=True):
        aged(tmp_path, name, days)
    aged(tmp_path, NIGHTLY[3], 50, split="validation")
    aged(tmp_path, "squad", 35)
    aged(tmp_path, "squad-2", 5)
    return tmp_path


def expired(cache_dir: Path, **rule: Any) -> list[tuple[str, int]]:
    return [(each.name, round(each.age_seconds / DAY)) for each in find_expired_caches(cache_dir, **rule)]


DATED = list(zip(NIGHTLY, (40, 30, 20, 10), strict=True))
VALIDATION, SQUAD, SQUAD_2 = (NIGHTLY[3], 50), ("squad", 35), ("squad-2", 5)
RULES: list[tuple[dict[str, Any], list[tuple[str, int]]]] = [
    ({"older_than": "25d"}, [VALIDATION, DATED[0], SQUAD, DATED[1]]),
    ({"older_than": timedelta(days=36)}, [VALIDATION, DATED[0]]),
    ({"older_than": "5.5w"}, [VALIDATION, DATED[0]]),
    ({"older_than": f"{36 * 24}h"}, [VALIDATION, DATED[0]]),
    ({"older_than": f"{36 * 24 * 60}m"}, [VALIDATION, DATED[0]]),
    ({"older_than": f"{36 * DAY}s"}, [VALIDATION, DATED[0]]),
    ({"older_than": "60d"}, []),
    ({"keep": 1}, DATED[:3]),
    ({"keep": 3}, DATED[:1]),
    ({"keep": 4}, []),
    ({"keep": 1, "older_than": "25d"}, DATED[:2]),
    ({"keep": 3, "older_than": "45d"}, []),
    ({"older_than": "1s", "pattern": "squad*"}, [SQUAD, SQUAD_2]),
    ({"older_than": "1s", "pattern": "squad"}, [SQUAD]),
    ({"keep": 2, "pattern": "docs?2025*"}, DATED[:2]),
    ({"older_than": "60d", "pattern": "squad"}, []),
]


@pytest.mark.parametrize(("rule", "expected"), RULES)
def test_a_rule_finds_what_it_does_not_keep_and_removes_just_that(
    cache_dir: Path, rule: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    assert expired(cache_dir, **rule) == expected
    before = {path.name: files_of(path) for path in cache_dir.iterdir() if path.is_dir()}
    found = find_expired_caches(str(cache_dir), **rule)
    assert all(each.num_bytes == sum(map(len, before[each.path.name].values())) for each in found)
    removed = remove_expired_caches(cache_dir, **rule)
    assert [each.path for each in removed] == [each.path for each in found]
    for each in removed:
        del before[each.path.name]
    assert {path.name: files_of(path) for path in cache_dir.iterdir() if path.is_dir()} == before
    rest = {**rule, "pattern": None}
    assert not {each.path for each in find_expired_caches(cache_dir, **rest)} & {each.path for each in removed}


@pytest.mark.parametrize(
    ("names", "are_one"),
    [
        (("docs-20250101", "docs-20250102"), True),
        (("docs-20250101.jsonl", "docs_2025.01.02.jsonl"), True),
        (("20250101-docs", "2025-01-02_docs"), True),
        (("20250101", "2025-01-02T03:04:05"), True),
        (("a-20250101-b-20250101", "a-20250202-b-20250303"), True),
        (("docs-20250101", "docs-20251301"), False),
        (("docs-20250101", "docs-20250132"), False),
        (("docs-120250101", "docs-120250102"), False),
        (("docs-202501010", "docs-202501020"), False),
        (("docs-2025-0101", "docs-2025-0102"), False),
        (("docs-20250101", "docs"), False),
        (("docs-20250101", "doc-20250102"), False),
        (("docs-20250101.en", "docs-20250101.de"), False),
        (("docs-1", "docs-2"), False),
        (("docs-18991231", "docs-18991230"), False),
    ],
)
def test_names_that_differ_only_by_dates_are_one(tmp_path: Path, names: tuple[str, str], are_one: bool) -> None:
    for age, name in enumerate(names, 1):
        aged(tmp_path, name, age)
    assert expired(tmp_path, keep=1) == ([(names[1], 2)] if are_one else [])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "older_than: .*keep, found neither"),
        ({"pattern": "x"}, "older_than: .*keep, found neither"),
        *(
            ({"older_than": age}, "older_than: expected a number above 0 with a unit")
            for age in ("30", "", "d", "-1d", "0d", "0.0h", "nan", "nand", "infd", "1y", "1 d", "1D", "1e3s", "٣d")
        ),
        *(({"older_than": age}, "older_than: ") for age in (30, float("nan"), True, timedelta(0), timedelta(days=-1))),
        ({"older_than": f"{'9' * 400}d"}, "older_than: "),
        *(({"keep": keep}, "keep: expected") for keep in (0, -1, 1.5, float("nan"), True, "3")),
        *(({"keep": 1, "pattern": pattern}, "pattern: expected") for pattern in ("", 3, "a\0")),
    ],
)
@pytest.mark.parametrize("call", [find_expired_caches, remove_expired_caches])
def test_a_wrong_rule_fails_before_any_work(tmp_path: Path, call: Any, rule: dict[str, Any], message: str) -> None:
    directory = aged(tmp_path, "x", 400)
    with pytest.raises(SettingsError, match=f"^{message}"):
        call(tmp_path, **rule)
    assert directory.exists()


def test_a_pattern_that_matches_no_name_is_an_error(cache_dir: Path, tmp_path: Path) -> None:
    for call in (find_expired_caches, remove_expired_caches):
        with pytest.raises(CacheNotFoundError, match=r"'news-\*'.*found none; there are.*'squad'"):
            call(cache_dir, keep=1, pattern="news-*")
        assert call(tmp_path / "none", keep=1, pattern="news-*") == []


def test_one_that_is_in_use_stays_and_the_others_go(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memxlnet.maintain.lock.WAIT_SECONDS", 0.05)
    first, second = (each.path for each in find_expired_caches(cache_dir, keep=2))
    with builder_lock(lock_path(cache_dir, first.name), lambda: None):
        assert [each.in_use for each in find_expired_caches(cache_dir, keep=2)] == [True, False]
        assert [each.path for each in remove_expired_caches(cache_dir, keep=2)] == [second]
    assert first.exists()
    assert [each.path for each in remove_expired_caches(cache_dir, keep=2)] == [first]


def test_one_that_was_rebuilt_meanwhile_stays(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rebuild_first(path: Path, is_due: Any) -> bool:
        os.utime(path / "manifest.json")
        return remove_directory(path, is_due)

    monkeypatch.setattr("memxlnet.maintain.retention.remove_directory", rebuild_first)
    before = sorted(cache_dir.iterdir())
    assert remove_expired_caches(cache_dir, older_than="25d") == []
    assert [path for path in sorted(cache_dir.iterdir()) if path.is_dir()] == [path for path in before if path.is_dir()]


def test_a_reader_keeps_what_it_has_mapped(tmp_path: Path) -> None:
    cache = PublishedCache(aged(tmp_path, "x", 2))
    before = [cache.documents.text("id", row) for row in range(cache.num_documents)]
    assert len(remove_expired_caches(tmp_path, older_than="1d")) == 1
    cache.documents.validate()
    assert [cache.documents.text("id", row) for row in range(cache.num_documents)] == before


def test_what_is_no_cache_of_its_own_name_neither_goes_nor_counts(tmp_path: Path) -> None:
    kept = aged(tmp_path, "docs-20250101", 9)
    renamed = aged(tmp_path, "docs-20250102", 1)
    renamed.rename(tmp_path / "mine")
    filled = aged(tmp_path, "docs-20250103", 2)
    (filled / "notes.txt").write_text("precious")
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()
    assert find_expired_caches(tmp_path, keep=1) == []
    assert [each.path for each in remove_expired_caches(tmp_path, older_than="1h")] == [kept]
    assert (tmp_path / "mine" / "manifest.json").exists()
    assert (filled / "notes.txt").exists()


def test_one_from_the_future_has_no_age(tmp_path: Path) -> None:
    aged(tmp_path, "docs-20250101", -3)
    aged(tmp_path, "docs-20250102", -2)
    assert find_expired_caches(tmp_path, older_than="1s") == []
    (cache,) = find_expired_caches(tmp_path, keep=1)
    assert (cache.name, cache.age_seconds) == ("docs-20250102", 0)
