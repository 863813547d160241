"""`bertpress published`: what it lists and shows."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from compression.analysis.published import load_published
from flows.command_line import main
from flows.published import show_entry

ROOT = Path(__file__).parents[2]
PUBLISHED = load_published()


@pytest.fixture
def bertpress(monkeypatch, capsys):
    def run(*arguments, expect=0):
        monkeypatch.setattr(sys, "argv", ["bertpress", *arguments])
        with pytest.raises(SystemExit) as ending:
            main()
        printed = capsys.readouterr()
        assert ending.value.code == expect, printed.err
        return printed.err if expect else printed.out

    return run


def shown(identifier, width):
    console = Console(width=width, file=io.StringIO())
    show_entry(console, PUBLISHED, identifier)
    return console.file.getvalue()


def test_the_list_has_every_table(bertpress):
    records = json.loads(bertpress("published", "--json"))
    assert sorted(record["id"] for record in records) == sorted([*PUBLISHED.tables, *PUBLISHED.settings])
    text = bertpress("published")
    assert all(identifier in text for identifier in PUBLISHED.tables)


def test_a_paper_lists_its_tables(bertpress):
    records = json.loads(bertpress("published", "tinybert", "--json"))
    assert [record["id"] for record in records] == [*(f"tinybert.t{n}" for n in range(1, 8)), "tinybert.hyper"]
    assert records[2] == {
        "id": "tinybert.t3",
        "paper": "TinyBERT",
        "arxiv": "1909.10351",
        "table": "Table 3",
        "split": "dev",
        "kind": "figures",
        "what": "Ablation of the distillation objectives",
    }


def test_a_table_with_source_split_and_notes(bertpress):
    text = bertpress("published", "distilbert.t1")
    assert "DistilBERT (Sanh et al. 2019, arXiv:1910.01108), Table 1" in text
    assert "Read in the paper: full text of the paper." in text
    assert "Split: dev." in text
    assert "! BERT-base, score: printed 79.5, recomputed 79.7" in text
    assert "• The metrics of MRPC, QQP and STS-B are not stated" in text
    row = next(line for line in text.splitlines() if line.startswith("DistilBERT  "))
    assert row.split() == ["DistilBERT", *map(str, PUBLISHED.table("distilbert.t1").row("DistilBERT").figures.values())]


def test_a_table_as_json(bertpress):
    record = json.loads(bertpress("published", "distilbert.t2", "--json"))
    assert record["paper"] == "DistilBERT"
    assert record["columns"]["imdb"] | {"mean_of": None} == {
        "quantity": "score", "task": "imdb", "metric": "accuracy", "metric_stated": True, "split": "test",
        "condition": "", "mean_of": None, "relative_to": None,
    }  # fmt: skip
    assert record["rows"][2]["figures"] == {"imdb": None, "squad_exact_match": 79.1, "squad_f1": 86.9}


def test_settings_are_shown(bertpress):
    text = bertpress("published", "albert.t14")
    assert "learning_rate 5e-05, batch_size 48" in text
    assert json.loads(bertpress("published", "distilbert.hyper", "--json"))["rows"][0]["value"] == 5.0


def test_hidden_labels_are_told():
    assert "nothing here can be measured without GLUE's server" in shown("tinybert.t1", 200)
    assert "server" not in shown("distilbert.t2", 200), "IMDb's test labels are public"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_figure_is_shown_in_full_at_any_width(width):
    for identifier, table in PUBLISHED.tables.items():
        text = shown(identifier, width)
        words = text.split()
        for row in table.rows:
            for figure in row.figures.values():
                printed = "—" if figure is None else f"{figure:,}".replace("-", "−")
                assert printed in words or f"+{printed}" in words, (identifier, row.name, figure)
        assert "…" not in text, identifier
        assert max(map(len, text.splitlines())) <= width, identifier


def test_unknown_names_end_with_exit_code_2_and_the_nearest(bertpress):
    assert bertpress("published", "tinybrt.t3", expect=2) == (
        "no published paper or table 'tinybrt.t3'; did you mean 'tinybert.t3'?\n"
    )
    assert "did you mean 'albert'?" in bertpress("published", "alberd", expect=2)


def test_nothing_heavy_is_imported():
    program = (
        "import sys; from flows.command_line import app; app(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'numpy', 'pandas', 'prefect', 'mlflow'}))"
    )
    for arguments in (["published", "tinybert.t3"], ["--help"]):
        run = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert run.stdout.splitlines()[-1] == "[]"
