"""The table as LaTeX with booktabs."""

from itertools import groupby

from compression.analysis.results import AblationTable
from flows.report.document import Document
from flows.report.grid import Entry, Grid, grid

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after a line break it would open an optional argument
    "]": "{]}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
}


def escape(text: object) -> str:
    r"""Text that LaTeX prints as it is.

    Args:
        text: anything.

    Returns:
        One line in which no character has a meaning of its own.

    Example:
        >>> print(escape("50% of a_b & $x^2$ −1"))
        50\% of a\_b \& \$x\textasciicircum{}2\$ $-$1
    """
    return "".join(_ESCAPES.get(character, character) for character in " ".join(str(text).split()))


def render(table: AblationTable, document: Document) -> str:
    r"""A `table*` environment; needs `\usepackage{booktabs}` and `\usepackage[T1]{fontenc}`.

    Args:
        table: the table.
        document: its title and description become the caption.

    Returns:
        LaTeX text.
    """
    laid_out = grid(table)
    caption = f"{document.title}. {document.description}" if document.description else f"{document.title}."
    notes = [*laid_out.legend, *table.notes]
    body = [
        " & ".join([escape(line.variant), *(_entry(entry) for entry in line.entries)]) + r" \\"
        for line in laid_out.lines
    ]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{escape(caption)}}}",
            r"\small",
            rf"\begin{{tabular}}{{l{'r' * len(laid_out.headings)}}}",
            r"\toprule",
            *_header(laid_out),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
            rf"\smallskip\footnotesize {' '.join(escape(note) for note in notes)}",
            r"\end{table*}",
            "",
        ]
    )


def _header(laid_out: Grid) -> list[str]:
    """Tasks over their columns, then the columns' own headings."""
    groups, rules, start = [""], [], 2
    for group, members in groupby(laid_out.headings, key=lambda heading: heading.group):
        width = len(list(members))
        groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [
        " & ".join(groups) + r" \\",
        " ".join(rules),
        " & ".join(["Variant", *(escape(heading.label) for heading in laid_out.headings)]) + r" \\",
    ]


def _entry(entry: Entry) -> str:
    return rf"\textbf{{{escape(entry.full)}}}" if entry.bold else escape(entry.full)
