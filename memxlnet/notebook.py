"""What a notebook shows of an object: a small table."""

from collections.abc import Mapping
from html import escape

_LONGEST = 60


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """Return a table of names and values as HTML.

    Args:
        title: What the object is; escaped, as are the names and values.
        rows: Values by name.
    """
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(_shown(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<div><strong>{escape(title)}</strong><table><tbody>{cells}</tbody></table></div>"


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def shortened(value: object) -> str:
    """Return a value as code shows it; of a long text the beginning and the number of characters."""
    if isinstance(value, str) and len(value) > _LONGEST:
        return f"{value[: _LONGEST - 3]!r}... ({len(value):,} characters)"
    shown = repr(value)
    if len(shown) <= 2 * _LONGEST:
        return shown
    return (
        f"{type(value).__name__} of {len(value):,}" if isinstance(value, list | tuple | dict) else shown[:117] + "..."
    )
