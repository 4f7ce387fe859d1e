"""Child processes: their results, their failures, their memory, and a limit on it."""

import sys

import pytest

from benchmarks import memory
from benchmarks.child import ChildError, in_process
from benchmarks.control_group import NotPossibleError, memory_limit
from tests.benchmarks import children

MB = 10**6


def test_a_child_gives_its_result() -> None:
    child = in_process(children.add, first=2, second=3)
    assert child.value == 5
    assert not child.killed


def test_an_error_of_a_child_is_raised() -> None:
    with pytest.raises(ChildError, match=r"(?s)children:fail failed with exit code 1:.*expected something else"):
        in_process(children.fail)


def test_a_killed_child_is_reported_as_killed() -> None:
    child = in_process(children.end_by_signal)
    assert child.killed
    assert child.value is None


@pytest.mark.slow
def test_the_memory_of_a_child_is_sampled() -> None:
    small = in_process(children.take, megabytes=1, seconds=1.0).peak()
    large = in_process(children.take, megabytes=200, seconds=2.5).peak()
    assert 180 * MB < large.anonymous - small.anonymous < 220 * MB
    assert large.rss >= large.anonymous


def test_own_memory_grows_by_what_is_taken() -> None:
    before = memory.of_self()
    held = bytearray(100 * MB)
    held[::4096] = b"x" * len(held[::4096])
    grown = memory.of_self().anonymous - before.anonymous
    assert 90 * MB < grown < 120 * MB
    assert held


def test_an_ended_process_counts_as_zero() -> None:
    assert memory.of_processes([2**22 + 1]) == (0, 0, 0)
    assert memory.of_processes([]) == (0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="control groups exist on Linux only")
def test_a_child_beyond_its_limit_is_killed() -> None:
    try:
        with memory_limit(150 * 2**20) as group:
            assert in_process(children.take, group=group, megabytes=20).value == 20 * MB
            assert group.kills() == 0
            assert in_process(children.take, group=group, megabytes=400).killed
            assert group.kills() == 1
            directory = group.directory
        assert not directory.exists()
    except NotPossibleError as error:
        pytest.skip(f"no control group with a limit: {error}")
