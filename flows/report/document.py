"""What a report says besides its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# Format -> name of the file that it is written to.
FORMATS: dict[str, str] = {
    "markdown": "table.md",
    "csv": "table.csv",
    "latex": "table.tex",
    "json": "table.json",
    "html": "report.html",
    "svg": "plot.svg",
    "png": "plot.png",
}


@dataclass(frozen=True)
class Document:
    """Text around the table. Everything here is a user's own text: each renderer escapes it.

    Attributes:
        title: heading.
        description: one paragraph.
        study_text: the study file as it was read.
        links: label -> address, for example of the experiment in MLflow.
        environment: name -> value, for example processor, threads and versions.
        sections: heading -> lines, for what stages have to say besides the table.
    """

    title: str
    description: str = ""
    study_text: str = ""
    links: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    sections: Mapping[str, Sequence[str]] = field(default_factory=dict)


def safe_address(address: str) -> str | None:
    r"""An address that may become a link.

    Args:
        address: as it was given.

    Returns:
        The address; None when following it could run code (`javascript:`, `data:`).

    Example:
        >>> safe_address("http://127.0.0.1:5000/#/runs/1"), safe_address("javascript:alert(1)")
        ('http://127.0.0.1:5000/#/runs/1', None)
        >>> safe_address("runs/1.html"), safe_address(" java\tscript:alert(1)")
        ('runs/1.html', None)
    """
    cleaned = "".join(character for character in address if character.isprintable() and character != " ")
    try:
        scheme = urlsplit(cleaned).scheme.lower()
    except ValueError:
        return None
    return cleaned if cleaned and scheme in ("", "http", "https", "file") else None
