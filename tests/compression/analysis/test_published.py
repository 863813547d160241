"""The published figures: what comes with the project is sound, and what is not sound is refused."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from compression.analysis.published import PUBLISHED_FOLDER, load_published
from compression.analysis.published_checks import recomputed
from compression.data.config import TaskConfig
from compression.data.glue import GLUE_TASKS
from compression.errors import UserError
from flows.spec import task_metrics

ROOT = Path(__file__).parents[3]
PUBLISHED = load_published()


def raw_tables():
    """The tables as plain YAML, past the models."""
    files = sorted(PUBLISHED_FOLDER.glob("*.yaml"))
    return {table["id"]: table for file in files for table in yaml.safe_load(file.read_text()).get("tables", ())}


# Averages as the papers define them, written down here a second time, by columns of the raw files.
NINE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
NINE_TEST = ("mnli", "mnli_mismatched", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
FOUR = ("mnli", "mnli_mismatched", "mrpc", "cola")


def albert(row):
    squad = (row["squad_f1"] + row["squad_exact_match"]) / 2
    return fmean(
        [
            squad,
            (row["squad_v2_f1"] + row["squad_v2_exact_match"]) / 2,
            *(row[task] for task in ("mnli", "sst2", "race")),
        ]
    )


def official_glue(row):
    pairs = (("mrpc_f1", "mrpc_accuracy"), ("stsb_pearson", "stsb_spearman"), ("qqp_f1", "qqp_accuracy"))
    pairs = (*pairs, ("mnli", "mnli_mismatched"))
    return fmean(
        [*(row[task] for task in ("cola", "sst2", "qnli", "rte", "wnli")), *((row[a] + row[b]) / 2 for a, b in pairs)]
    )


def plain(*columns):
    return lambda row: fmean(row[column] for column in columns)


LENGTHS = [f"length_{length}_batch_{batch}" for length in (128, 256) for batch in (1, 2, 4, 8)]
AVERAGES = {
    "distilbert.t1": ("score", plain(*NINE)),
    "distilbert.readme_glue": ("score", plain(*NINE)),
    "tinybert.t1": ("average", plain(*NINE_TEST)),
    **{f"tinybert.t{number}": ("average", plain(*FOUR)) for number in (2, 3, 4, 7)},
    **{f"albert.t{number}": ("average", albert) for number in (2, 3, 4, 5, 6, 7, 8, 11, 12)},
    "ibert.t2": ("average", plain(*NINE_TEST)),
    "ibert.t3": ("average", plain(*LENGTHS)),
    "ibert.t4": ("average", plain("qnli", "sst2", "mrpc", "rte")),
    "miniatures.readme": ("score", official_glue),
}


def test_every_average_is_checked_here():
    """AutoTinyBERT's is not: its README does not say what it is the average of."""
    with_average = {
        identifier
        for identifier, table in raw_tables().items()
        if any("mean_of" in column or column.get("quantity") == "average" for column in table["columns"].values())
    }
    assert with_average == {*AVERAGES, "autotinybert.readme"}


def test_averages_equal_the_printed_ones_except_where_it_is_noted():
    tables = raw_tables()
    differing = set()
    for identifier, (column, average) in AVERAGES.items():
        for row in tables[identifier]["rows"]:
            printed = row["figures"][column]
            if printed is None:
                continue
            decimals = len(str(printed).split(".")[1])
            if abs(average(row["figures"]) - printed) > 0.5 / 10**decimals + 1e-9:
                differing.add((identifier, row["name"], column))
    noted = {
        (identifier, item["row"], item["column"])
        for identifier, table in tables.items()
        for item in table.get("expected_inconsistencies", ())
        if item["column"] != "parameters"
    }
    assert differing == noted == {("distilbert.t1", "BERT-base", "score"), ("miniatures.readme", "BERT-Tiny", "score")}


def test_the_readme_explains_distilberts_average():
    """With MNLI 84.7 of the authors' README instead of 86.7, BERT-base's average is the printed one."""
    row = PUBLISHED.table("distilbert.t1").row("BERT-base")
    mnli = PUBLISHED.table("distilbert.readme_glue").figure("BERT-base-uncased", "mnli")
    assert round(fmean([mnli, *(row.figures[task] for task in NINE if task != "mnli")]), 1) == row.figures["score"]


def test_differences_follow_from_the_figures():
    """Block pruning prints two decimals, and every difference is exact."""
    checked = 0
    for identifier, column, dense in (("squad", "f1", 88.5), ("mnli", "accuracy", 84.6)):
        table = PUBLISHED.table(f"blockpruning.{identifier}")
        for row in table.rows:
            assert row.figures["difference"] == pytest.approx(row.figures[column] - dense, abs=1e-9)
            assert recomputed(table, row, "difference") == pytest.approx(row.figures["difference"], abs=1e-9)
            checked += 1
    assert checked == 15


@pytest.mark.parametrize(
    ("first", "second", "unequal"),
    [
        (("tinybert.t2", "TinyBERT4"), ("tinybert.t3", "TinyBERT4"), []),
        (("tinybert.t3", "TinyBERT4"), ("tinybert.t4", "Uniform"), []),
        (("tinybert.t2", "w/o DA"), ("tinybert.t7", "TinyBERT (GD+TD)"), []),
        (("tinybert.t1", "BERT-SMALL"), ("miniatures.readme", "BERT-Small"), []),
        (("albert.t2", "ALBERT-base"), ("albert.t3", "all-shared E=128"), []),
        (("albert.t2", "BERT-base"), ("albert.t3", "not-shared E=768"), []),
        (("albert.t3", "all-shared E=768"), ("albert.t4", "E=768 all-shared"), []),
        (("albert.t3", "all-shared E=128"), ("albert.t4", "E=128 all-shared"), ["mnli"]),
        (("albert.t3", "not-shared E=128"), ("albert.t4", "E=128 not-shared"), ["mnli", "average"]),
        (("albert.t4", "E=128 all-shared"), ("albert.t5", "SOP"), []),
        (("albert.t2", "ALBERT-base"), ("albert.t7", "no additional data"), []),
        (("albert.t11", "3 layers"), ("albert.t12", "H=1024"), []),
    ],
)
def test_rows_that_are_printed_twice_agree(first, second, unequal):
    """Where they do not, the notes of the table say so (ALBERT's Table 4)."""
    one, other = (PUBLISHED.table(identifier).row(name).figures for identifier, name in (first, second))
    common = [column for column in one if column in other]
    assert len(common) >= 4
    assert [column for column in common if one[column] != other[column]] == unequal


def test_scores_are_named_as_evaluate_names_them():
    for table in PUBLISHED.tables.values():
        for column in table.columns.values():
            if column.task in GLUE_TASKS and column.metric is not None:
                assert column.metric in task_metrics(TaskConfig(name=column.task)), (table.id, column)


SHARING = {(1, 1): "all", (1, 0): "attention", (0, 1): "ffn", (0, 0): "none"}


def test_factors_agree_with_shapes():
    checked = 0
    for table in PUBLISHED.tables.values():
        for row in table.rows:
            if (shape := table.shape_of(row)) is None:
                continue
            encoder = shape.encoder()
            shared = tuple(
                int(len(blocks) == 1 < encoder.layers)
                for blocks in (encoder.attention_heads, encoder.intermediate_sizes)
            )
            said = {
                "layers": encoder.layers,
                "hidden_size": encoder.hidden_size,
                "embedding_size": encoder.embedding_size,
                "sharing": SHARING[shared],
            }
            for factor in said.keys() & row.factors.keys():
                assert row.factors[factor] == said[factor], (table.id, row.name, factor)
                checked += 1
    assert checked >= 60


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(UserError, match=r"no published table 'tinybert.t33'; did you mean 'tinybert.t3'"):
        PUBLISHED.table("tinybert.t33")
    with pytest.raises(UserError, match="no published table 'xyz'; `bertpress published` lists them"):
        PUBLISHED.entry("xyz")
    with pytest.raises(UserError, match="did you mean 'w/o Attn'"):
        PUBLISHED.table("tinybert.t3").row("w/o Atn")
    with pytest.raises(UserError, match="did you mean 'average'"):
        PUBLISHED.table("tinybert.t3").figure("w/o Attn", "averge")


SOUND = """
paper: Demo
authors: Doe et al.
year: 2020
tables:
  - id: demo.t1
    table: Table 1
    what: a table
    split: dev
    read_in: paper
    source: full text
    columns:
      parameters: {quantity: parameters_millions}
      rte: {task: rte, metric: accuracy}
      cola: {task: cola, metric: matthews}
      average: {quantity: average, mean_of: [rte, cola]}
      difference: {quantity: difference, relative_to: {row: large, column: rte}}
    rows:
      - name: large
        shape: {preset: bert-base}
        figures: {parameters: 110, rte: 70.0, cola: 50.0, average: 60.0, difference: 0.0}
      - name: small
        shape: {layers: 2, hidden_size: 128, heads: 2, intermediate_size: 512}
        figures: {parameters: 4.4, rte: 60.0, cola: -1.0, average: 29.5, difference: -10.0}
    expected_inconsistencies:
      - {row: large, column: parameters, recomputed: 109.5, reason: rounded}
"""


def load(folder, text, name="demo.yaml"):
    (folder / name).write_text(text)
    return load_published(folder)


def test_a_sound_file_is_read(tmp_path):
    published = load(tmp_path, SOUND)
    table = published.table("demo.t1")
    assert table.figure("small", "cola") == -1.0
    assert isinstance(table.figure("large", "parameters"), int), "printed without decimals, kept without"
    assert published.paper("demo.t1").reference == "Demo (Doe et al. 2020)"


def test_the_documented_example_is_sound(tmp_path):
    page = (ROOT / "docs" / "reference" / "published.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    with pytest.raises(UserError, match=r"paper.yaml: id 'tinybert.t3' must begin with the name of its file"):
        load(tmp_path, example, "paper.yaml")
    (tmp_path / "paper.yaml").unlink()
    assert load(tmp_path, example, "tinybert.yaml").table("tinybert.t3").figure("w/o Attn", "cola") == 41.1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rte: 70.0", "rte: many", r"demo.yaml: tables\[0\].rows\[0\].figures.rte \(demo.t1\): must be a number or null; given 'many'"),
        ("rte: 70.0", "rte: true", "must be a number or null; given True"),
        ("rte: 70.0", "rte: .inf", "finite"),
        ("rte: 70.0, ", "", r"demo.yaml: tables\[0\] \(demo.t1\): row 'large': no 'rte'"),
        ("rte: 70.0", "rte: 70.0, rtee: 1.0", "column 'rtee' is not declared; did you mean 'rte'"),
        ("rte: 70.0", "rte: 70.0, rte: 71.0", "line 21: key 'rte' stands twice"),
        ("name: small", "name: large", "row 'large' stands twice"),
        ("rte: 70.0", "rte: 170.0", "rte 170.0 is not within 0 to 100"),
        ("cola: -1.0", "cola: -101.0", "cola -101.0 is not within -100 to 100"),
        ("average: 29.5", "average: 29.8", "average is printed 29.8 and recomputed 29.500"),
        ("difference: -10.0", "difference: 10.0", "difference is printed 10.0 and recomputed -10.000"),
        ("column: parameters", "column: average", "average is expected to be 109.5 instead of 60.0, and recomputed 60.000"),
        ("column: parameters", "column: rte", "where there is no mean, difference or count of parameters"),
        ("mean_of: [rte, cola]", "mean_of: [rte, colla]", "refers to 'colla', which is no other column; did you mean 'cola'"),
        ("mean_of: [rte, cola]", "mean_of: [rte, average]", "refers to 'average', which is no other column"),
        ("row: large, column: rte", "row: larger, column: rte", "refers to a row 'larger' that is not there; did you mean 'large'"),
        ("row: large, column: rte}", "table: demo.t2, row: large, column: rte}", "demo.t1: column 'difference': no published table 'demo.t2'"),
        ("shape: {preset: bert-base}", "factors: {a: 1}", "row 'large' has parameters and neither `shape` nor `no_shape`"),
        ("preset: bert-base", "preset: bert-bas", r"shape \(demo.t1\): unknown preset 'bert-bas'.*did you mean 'bert-base'"),
        ("layers: 2, ", "", "needs a `preset`, or all of layers, hidden_size, heads, intermediate_size"),
        ("heads: 2", "heads: 3", "hidden_size 128 is not divisible by 3 heads"),
        ("preset: bert-base", "preset: bert-base, layers: 2", "`layers` is what the preset says"),
        ("preset: bert-base}", "preset: bert-base}\n        no_shape: none", "both `shape` and `no_shape`"),
        ("metric: accuracy", "metric: acuracy", r"tables\[0\].columns.rte.metric"),
        ("task: rte, metric: accuracy", "task: rte", "a score has a `metric`, or `metric_stated: false`"),
        ("quantity: average,", "quantity: average, task: rte,", "a score, and nothing else, has a `task`"),
        ("    split: dev\n", "", "column 'rte' is a score without a split"),
        ("id: demo.t1", "id: other.t1", "id 'other.t1' must begin with the name of its file, `demo.`"),
        ("what: a table", "whatt: a table", r"tables\[0\].whatt.*Extra inputs"),
        ("year: 2020", "year: 2020\narxiv: 1910.01108", "demo.yaml: arxiv: Input should be a valid string"),
        ("paper: Demo", "paper: [Demo", "demo.yaml: line "),
    ],
)  # fmt: skip
def test_malformed_files_name_file_and_field(tmp_path, old, new, message):
    assert SOUND.count(old) >= 1
    with pytest.raises(UserError, match=message):
        load(tmp_path, SOUND.replace(old, new, 1))


def test_all_problems_are_told(tmp_path):
    (tmp_path / "other.yaml").write_text("- a list")
    with pytest.raises(UserError) as caught:
        load(tmp_path, SOUND.replace("rte: 70.0", "rte: a").replace("rte: 60.0", "rte: b"))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "demo.yaml",
        "demo.yaml",
        "other.yaml",
    ]


def test_an_id_that_stands_twice_is_refused(tmp_path):
    tables = SOUND.partition("tables:\n")[2]
    with pytest.raises(UserError, match=r"demo.yaml: id 'demo.t1' stands twice"):
        load(tmp_path, SOUND + tables)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no published figures"):
        load_published(tmp_path)


def test_the_figures_come_with_an_installed_package(tmp_path):
    """A wheel, unpacked elsewhere, finds its figures; and reading them imports nothing heavy."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    for folder in ("compression", "flows", "tasks", "studies"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = "from setuptools import build_meta; build_meta.build_wheel('wheel')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    zipfile.ZipFile(next((source / "wheel").glob("*.whl"))).extractall(installed)
    program = (
        "import sys\n"
        "from compression.analysis import published\n"
        "print(published.PUBLISHED_FOLDER, len(published.load_published().tables))\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'numpy', 'pandas', 'prefect', 'mlflow'}))\n"
    )
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=installed, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"{installed / 'studies' / 'published'} {len(PUBLISHED.tables)}", "[]"]
