"""The oldest releases that pyproject.toml allows, as constraints.

Write them with `python -m tests.floors > tests/constraints-oldest.txt`.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent

HEAD = """\
# The oldest releases that pyproject.toml allows, for its own dependencies and those of its test extra; made by
# `python -m tests.floors`. torch is held as in constraints.txt: its oldest release has no small wheel there.
"""


def floors() -> dict[str, str]:
    """The lower bound of each dependency of the package and of its tests, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, str] = {}
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        match = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z]+\])?>=([0-9.]+)", requirement)
        if match is None:
            raise ValueError(f"pyproject.toml: {requirement!r} is not of the form name>=version")
        found[match[1]] = match[2]
    return found


def constraints() -> str:
    """The text of constraints-oldest.txt."""
    held = (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines = {name: f"{name}=={version}" for name, version in floors().items()}
    lines.update({line.partition("==")[0]: line for line in held if not line.startswith("#")})
    return HEAD + "".join(f"{line}\n" for _, line in sorted(lines.items()))


if __name__ == "__main__":
    sys.stdout.write(constraints())
