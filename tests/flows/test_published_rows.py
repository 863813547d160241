"""`table.published` in a study: what is refused, and where the printed figures appear."""

import io
import json
from dataclasses import replace

import pytest
from fake_stages import STAGES
from rich.console import Console
from spec_stages import REGISTRY, load

from compression.analysis.cells import Cell
from compression.analysis.published import load_published
from compression.analysis.published_comparison import compare
from compression.analysis.table import table
from compression.data.config import TaskConfig
from flows.json_schema import study_schema
from flows.project import open_project
from flows.report import FORMATS, terminal, write
from flows.reporting import measured_table
from flows.spec import PublishedRowsConfig
from flows.study_errors import StudyFileError
from tasks.settings import Settings

STUDY = """
name: objectives
teacher: {{model: bert}}
tasks: [{tasks}]
variants:
  full: [{{task_distill: {{student: bert-tiny}}}}]
  no-attention: {{from: full, set: {{task_distill.hard_weight: 0}}}}
table:
  baseline: full
  published: {published}
"""


def study(published, tasks="cola, mrpc"):
    return STUDY.format(published=published, tasks=tasks)


GOOD = "{table: tinybert.t3, rows: {full: TinyBERT4, no-attention: w/o Attn}}"


def test_rows_belong_to_variants(tmp_path):
    asked = load(tmp_path, study(GOOD)).study.table.published
    names = [row.name for row in load_published().table("tinybert.t3").rows]
    assert asked.mapping(["full", "no-attention", "third"], names) == {"full": "TinyBERT4", "no-attention": "w/o Attn"}
    equal = PublishedRowsConfig.model_validate("tinybert.t4")
    assert equal.mapping(["Top", "mine"], ["Uniform", "Top", "Bottom"]) == {"Top": "Top"}


def test_a_bare_id_needs_equal_names(tmp_path):
    text = study("tinybert.t4").replace("no-attention:", "Bottom:")
    assert load(tmp_path, text).study.table.published.table == "tinybert.t4"


@pytest.mark.parametrize(
    ("published", "tasks", "message"),
    [
        ("tinybert.t33", "cola", r"study.yaml:10: table.published: no such published table; given 'tinybert.t33'.*did you mean 'tinybert.t3'"),
        ("tinybert.t3", "cola", "no variant is named like a row of tinybert.t3; say in `rows` which is which; allowed: TinyBERT4"),
        ("{table: tinybert.t3, rows: {ful: TinyBERT4}}", "cola", r"table.published.rows.ful: no such variant.*did you mean 'full'"),
        ("{table: tinybert.t3, rows: {full: TinyBERT}}", "cola", r"rows.full: tinybert.t3 has no such row.*did you mean 'TinyBERT4'"),
        (GOOD, "rte", "tinybert.t3 has no scores on the tasks of this study; allowed: cola, mnli, mrpc"),
        ("{tabel: tinybert.t3}", "cola", "table.published.tabel: unknown field"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_line(tmp_path, published, tasks, message):
    with pytest.raises(StudyFileError, match=message):
        load(tmp_path, study(published, tasks))


def test_the_schema_takes_an_id_or_a_mapping():
    jsonschema = pytest.importorskip("jsonschema")
    schema = study_schema(REGISTRY)
    table_schema = {"$defs": schema["$defs"], "$ref": "#/$defs/TableConfig"}
    accepts = jsonschema.Draft202012Validator(table_schema).is_valid
    assert accepts({"published": "tinybert.t3"})
    assert accepts({"published": {"table": "tinybert.t3", "rows": {"full": "TinyBERT4"}}})
    assert not accepts({"published": "tinybert.t33"})
    assert not accepts({"published": {"rows": {}}})


@pytest.fixture
def result():
    cells = [
        Cell(variant, "cola", seed, {"matthews": value + seed / 50})
        for variant, value in (("full", 0.3), ("no-attention", 0.2), ("other", 0.25))
        for seed in (0, 1)
    ]
    measured = table(cells, variants=["full", "no-attention", "other"], tasks=["cola"], baseline="full")
    figures = load_published()
    beside = compare(
        measured,
        figures.table("tinybert.t3"),
        figures.paper("tinybert.t3").reference,
        rows={"full": "TinyBERT4", "no-attention": "w/o Attn"},
        tasks=[TaskConfig(name="cola", limit_train=100)],
        shapes={},
    )
    return replace(measured, published=beside)


def test_every_format_shows_the_printed_figures_and_says_that_they_are_a_trend(result, tmp_path):
    write(result, tmp_path, tuple(FORMATS), title="t", description="", study_text="", links={}, environment={})
    for name in ("markdown", "latex", "html"):
        text = (tmp_path / FORMATS[name]).read_text()
        assert "41.1" in text
        assert "9.7" in text
        assert "arXiv:1909.10351), Table 3, dev" in text
        assert "a trend, no reproduction" in text
    markdown = (tmp_path / FORMATS["markdown"]).read_text()
    lines = [line.split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    assert [line[3].strip(" |") for line in lines] == ["published", "---:", "50.8", "41.1 (Δ −9.7)", "—"]
    assert "cola.matthews.published" in (tmp_path / FORMATS["csv"]).read_text()
    assert json.loads((tmp_path / FORMATS["json"]).read_text())["published"]["statement"].startswith("Measured figures")


@pytest.mark.parametrize("width", [40, 120])
def test_the_terminal_shows_them_too(result, width):
    console = Console(width=width, file=io.StringIO())
    console.print(terminal.render(result, width=width))
    text = console.file.getvalue()
    assert "published" in text
    assert "41.1 (Δ −9.7)" in text
    assert "no reproduction" in " ".join(text.split())


def test_a_study_puts_them_beside_whatever_is_measured(tmp_path):
    """Nothing is measured here: the printed figures are there all the same, and the shape is read from the model."""
    sizes = {"num_hidden_layers": 4, "hidden_size": 312, "num_attention_heads": 12, "intermediate_size": 1200}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 30522, **sizes}))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n" * 20)
    (tmp_path / "study.yaml").write_text(
        "name: beside\nteacher: {model: model, finetuned: true}\n"
        "tasks: [{name: cola, files: {train: rows.csv}}]\n"
        "variants: {full: [distill], other: [general, distill]}\n"
        "table: {metrics: {cola: [accuracy]}, published: {table: layerdrop.t7, rows: {full: BERT 6}}}\n"
    )
    with pytest.raises(StudyFileError, match="has no scores on the tasks"):
        open_project(tmp_path / "study.yaml", Settings(home=tmp_path / "home"), stages=STAGES)
    text = (tmp_path / "study.yaml").read_text().replace("layerdrop.t7", "tinybert.t3").replace("BERT 6", "TinyBERT4")
    (tmp_path / "study.yaml").write_text(text.replace("cola", "mrpc"))
    project = open_project(tmp_path / "study.yaml", Settings(home=tmp_path / "home"), stages=STAGES)
    figure = measured_table(project).published.at("full", 0)
    assert (figure.printed, figure.differs) == (85.8, ("split", "metric"))


def test_without_it_nothing_changes(tmp_path):
    loaded = load(tmp_path, study(GOOD).replace(f"  published: {GOOD}\n", ""))
    assert loaded.study.table.published is None
