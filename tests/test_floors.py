from tests.floors import constraints
from tests.support import ROOT


def test_the_oldest_releases_are_those_of_pyproject() -> None:
    found = (ROOT / "tests" / "constraints-oldest.txt").read_text(encoding="utf-8")
    assert found == constraints(), "run `python -m tests.floors > tests/constraints-oldest.txt`"
