"""Every format of the report, with names that try to break out of it."""

import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from report_cells import TASKS, VARIANTS, invent
from rich.console import Console

from compression.analysis.cells import Cell
from compression.analysis.table import table
from compression.errors import UserError
from flows.report import FORMATS, Document, delimited, html, latex, markdown, terminal, write
from flows.report.grid import grid, summary

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "{{ 7 * 7 }}",
    "a|b](javascript:alert(1)) **c** `d`",
    r"\input{x} $x$ 50% a_b & #1 ~^",
    "=HYPERLINK(0)",
    "[bold red]x[/nope]",
]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    cells = invent(tmp_path_factory.mktemp("cells"))
    return table(
        cells, variants=list(VARIANTS), tasks=list(TASKS), baseline="finetuned-3l", teacher="teacher",
        bootstrap_samples=300, limits={"tweets": 2400},
    )  # fmt: skip


@pytest.fixture(scope="module")
def hostile():
    cells = [
        Cell(name, "rte", seed, {"accuracy": 0.8 + index / 100 + seed / 500}, {"parameters": 7, "bytes": 4_000_000, "latency_ms": {"median": 5.0 + index}}, links={name: name, "script": "javascript:alert(1)"})
        for index, name in enumerate(HOSTILE)
        for seed in (0, 1)
    ]  # fmt: skip
    return table(cells, variants=HOSTILE, tasks=["rte"], baseline=HOSTILE[0], teacher=HOSTILE[1])


def _hostile_document():
    return Document(
        HOSTILE[1], HOSTILE[0], study_text="</pre><script>alert(1)</script>", links={HOSTILE[0]: "javascript:alert(1)"},
        environment={HOSTILE[0]: HOSTILE[1]},
    )  # fmt: skip


class _Page(HTMLParser):
    """Elements, their attributes, and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.rows = [], [], []
        self._open = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "tr":
            self.rows.append([])
        self._open = tag if tag in ("td", "th") else self._open
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1] += data


def test_every_format_is_written_with_the_same_bytes_each_time(result, tmp_path):
    options = {
        "title": "quickstart",
        "description": "d",
        "study_text": "name: quickstart",
        "environment": {"torch": "2"},
    }
    files = write(result, tmp_path / "a" / "b", **options)
    assert [path.name for path in files] == list(FORMATS.values())
    assert all(
        path.read_bytes() == again.read_bytes()
        for path, again in zip(files, write(result, tmp_path / "c", **options), strict=True)
    )


def test_only_the_formats_asked_for(result, tmp_path):
    assert [path.name for path in write(result, tmp_path, ["html", "csv"], title="t")] == ["table.csv", "report.html"]
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "table.csv"]


def test_an_unknown_format_suggests_the_nearest(result, tmp_path):
    with pytest.raises(
        UserError, match=r"unknown report format 'markdwon'; allowed: markdown, csv.*did you mean 'markdown'"
    ):
        write(result, tmp_path / "x", ["markdwon"], title="t")
    assert not (tmp_path / "x").exists()


def test_a_study_without_results_is_still_reported(tmp_path):
    empty = table([], variants=["a", "b"], tasks=["rte"], baseline="a")
    files = write(empty, tmp_path, title="t")
    assert [path.name for path in files] == ["table.md", "table.csv", "table.tex", "table.json", "report.html"]
    assert "nothing to draw" in (tmp_path / "report.html").read_text()
    Console(file=io.StringIO(), width=80).print(terminal.render(empty, width=80))


def test_only_what_is_significant_is_bold(result):
    entries = [entry for line in grid(result).lines for entry in line.entries]
    bold = {entry.full for entry in entries if entry.bold}
    deltas = [score.delta for row in result.rows for score in row.scores if score.delta]
    speedups = [row.efficiency.speedup for row in result.rows if row.efficiency.speedup]
    assert len([entry for entry in entries if entry.bold]) == sum(delta.significant for delta in deltas) + sum(
        speedup.verdict in ("faster", "slower") for speedup in speedups
    )
    assert any(delta.verdict == "no difference" for delta in deltas)
    text = markdown.render_table(result)
    assert {found.replace("\\", "") for found in re.findall(r"\*\*(.+?)\*\*", text)} == bold


def test_a_speed_up_inside_the_noise_is_no_difference():
    cells = [
        Cell(name, "rte", 0, {"accuracy": 0.8}, {"latency_ms": {"median": ms, "q1": 0.9 * ms, "q3": 1.1 * ms}})
        for name, ms in (("t", 10.0), ("a", 9.5))
    ]
    text = markdown.render_table(table(cells, variants=["t", "a"], tasks=["rte"], teacher="t"))
    assert "no difference" in text.splitlines()[-1]
    assert "**" not in text


def test_one_seed_is_said_in_every_format(tmp_path):
    cells = [Cell(name, "rte", 0, {"accuracy": value}) for name, value in (("a", 0.8), ("b", 0.9))]
    single = table(cells, variants=["a", "b"], tasks=["rte"], baseline="a")
    write(single, tmp_path, title="t")
    for name in ("table.md", "table.tex", "report.html", "table.json"):
        assert "One seed" in (tmp_path / name).read_text()
    assert "One seed" in _printed(single, 100)


def test_markdown_has_one_table_row_a_variant(result):
    text = markdown.render(
        result, Document("quickstart", links={"MLflow": "http://127.0.0.1:5000/#/experiments/1"}), plot="plot.svg"
    )
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(VARIANTS)
    assert len({line.count(" | ") for line in rows}) == 1
    assert "[MLflow](<http://127.0.0.1:5000/#/experiments/1>)" in text
    assert "[tweets seed 0 MLflow](<http://127.0.0.1:5000/#/experiments/1/runs/060>)" in text
    assert "> **Note:** tweets: the study limits evaluation to 2,400 rows" in text
    assert "![" in text


def test_markdown_shows_hostile_names_as_they_are(hostile):
    text = markdown.render(hostile, _hostile_document())
    assert "<" not in text.replace("](<", "")
    assert "](<javascript" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(HOSTILE)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


def test_csv_reads_back(result):
    rows = list(csv.DictReader(io.StringIO(delimited.render(result))))
    assert [row["variant"] for row in rows] == list(VARIANTS)
    assert float(rows[2]["tweets.accuracy.mean"]) == result.rows[2].scores[0].mean
    assert rows[1]["tweets.accuracy.delta"] == ""


def test_csv_runs_no_formula(hostile):
    names = [row["variant"] for row in csv.DictReader(io.StringIO(delimited.render(hostile)))]
    assert names == [f"'{name}" if name.startswith("=") else name for name in HOSTILE]


def test_latex_is_balanced_and_escaped(result, hostile):
    text = latex.render(result, Document("quick_start & more", "50% of $x$"))
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"\caption{quick\_start \& more. 50\% of \$x\$}" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = len(re.search(r"\\begin\{tabular\}\{(l[r]+)\}", text).group(1))
    assert all(len(re.findall(r"(?<!\\)&", line)) == columns - 1 for line in body[1:])
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in text
    bad = latex.render(hostile, _hostile_document())
    assert r"\input" not in bad
    assert r"\textbackslash{}input\{x\} \$x\$ 50\% a\_b \& \#1 \textasciitilde{}\textasciicircum{}" in bad
    for drawn in (text, bad):
        bare = re.sub(r"\\[{}\\]", "", drawn)
        assert bare.count("{") == bare.count("}")


def test_html_needs_no_network_and_nothing_foreign(result):
    page = _Page(html.render(result, Document("quickstart", study_text="name: x"), svg="<svg></svg>"))
    fetched = [value for name, value in page.attributes if name in ("src", "srcset", "data", "action")]
    assert fetched == []
    assert "link" in page.tags  # the empty icon, or browsers ask for /favicon.ico
    assert [value for name, value in page.attributes if name == "rel"] == ["icon"]
    assert page.tags.count("script") == 1
    assert "@import" not in html.render(result, Document("q"))


def test_html_table_holds_the_numbers_and_links_to_runs(result):
    text = html.render(result, Document("quickstart", links={"MLflow": "http://127.0.0.1:5000/#/x"}))
    page = _Page(text)
    row = next(row for row in page.rows if row and row[0].startswith("distilled-3l-int8"))
    assert "82." in row[1]
    assert "±" in row[1]
    links = [value for name, value in page.attributes if name == "href"]
    for cell in result.rows[3].cells:
        assert cell.links["MLflow"] in links
    assert "http://127.0.0.1:5000/#/x" in links
    assert [value for name, value in page.attributes if name == "data-column"] == [str(index) for index in range(11)]


def test_html_escapes_whatever_a_user_wrote(hostile):
    text = html.render(hostile, _hostile_document())
    page = _Page(text)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not any((value or "").startswith("javascript") for _, value in page.attributes)
    assert "49" not in "".join(cell for row in page.rows for cell in row[:1])
    assert [row[0] for row in page.rows[2 : 2 + len(HOSTILE)]] == [
        HOSTILE[0] + "baseline", HOSTILE[1] + "teacher", *HOSTILE[2:]
    ]  # fmt: skip


def test_html_allows_its_own_script_and_no_other(result):
    import base64
    import hashlib

    text = html.render(result, Document("t"))
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text or f"script-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text


def test_json_is_the_table(result, tmp_path):
    (path,) = write(result, tmp_path, ["json"], title="t")
    assert json.loads(path.read_text())["baseline"] == "finetuned-3l"


def _printed(result, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(terminal.render(result, width=width, title="study"))
    return console.file.getvalue()


def test_four_variants_on_one_task_fit_side_by_side(tmp_path):
    cells = invent(tmp_path, tasks=["tweets"])
    small = table(
        cells,
        variants=list(VARIANTS)[:4],
        tasks=["tweets"],
        baseline="finetuned-3l",
        teacher="teacher",
        bootstrap_samples=200,
    )
    wide, narrow = _printed(small, 120), _printed(small, 100)
    assert (
        sum(line.startswith(("teacher", "finetuned", "distilled")) and "M  " in line for line in wide.splitlines()) == 4
    )
    row = next(line for line in wide.splitlines() if line.startswith("distilled-3l-int8"))
    assert all(part in row for part in ("±", "[+", "%", "17.4M", "18.0 (5.0×)", "×"))
    for text, width in ((wide, 120), (narrow, 100)):
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_table_too_wide_is_stacked_or_split_and_never_cut(result, width):
    text = _printed(result, width)
    assert max(map(len, text.splitlines())) <= width
    everything = " ".join(text.split())
    for line in grid(result).lines:
        for entry in line.entries:
            assert entry.narrow in everything
    assert "and 2 more in the report" in everything


def test_terminal_shows_hostile_names_as_they_are(hostile):
    text = _printed(hostile, 160)
    assert "[bold red]x[/nope]" in text
    assert "<img src=x onerror=alert(1)>" in text


def test_a_long_name_leaves_room_for_the_figures():
    name = "n" * 90
    text = _printed(table([Cell(name, "rte", 0, {"accuracy": 0.8})], variants=[name], tasks=["rte"]), 80)
    assert "80.0" in text
    assert "n…" in text


def test_summary_counts_verdicts(result):
    assert summary(result).startswith(
        "6 variants × 2 tasks × 3 seeds, 36 cells, 6 of them reused. Against finetuned-3l: "
    )


def test_reporting_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\n"
        "import flows.report, flows.report.terminal, compression.analysis.table\n"
        "heavy = {'torch', 'transformers', 'datasets', 'mlflow', 'prefect', 'sklearn', 'scipy', 'matplotlib', 'jinja2', 'rich', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "from pathlib import Path\n"
        "from compression.analysis.cells import Cell\n"
        "cells = [Cell(n, 'rte', s, {'accuracy': v + s / 100}, {'latency_ms': {'median': 5.0}}) for n, v in (('a', .8), ('b', .7)) for s in (0, 1)]\n"
        "table = compression.analysis.table.table(cells, variants=['a', 'b'], tasks=['rte'], baseline='a', teacher='b')\n"
        "flows.report.write(table, Path(sys.argv[1]), title='t')\n"
        "flows.report.terminal.render(table)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'mlflow', 'prefect', 'sklearn'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "[]"]
