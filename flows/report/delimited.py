"""The table as CSV: unrounded numbers in natural units."""

from compression.analysis.results import AblationTable

# A spreadsheet would run a text that begins like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(table: AblationTable) -> str:
    """The table as comma-separated values, one line a variant.

    Args:
        table: the table.

    Returns:
        CSV text with the columns of `AblationTable.to_frame`.
    """
    frame = table.to_frame()
    frame.index = frame.index.map(_defused)
    return str(frame.to_csv(lineterminator="\n"))


def _defused(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
