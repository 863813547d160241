"""The command line: `bertpress --help`.

Exit codes: 0 done; 1 a stage failed; 2 the study, its data or the command is wrong; 130 stopped on request. Heavy
libraries are imported inside the commands that need them.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

# Spinning OpenMP threads beside a busy neighbour make two threads slower than one; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer

from compression.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from flows.project import Project

FAILED, WRONG, STOPPED = 1, 2, 130
_PIPE_COLUMNS = 120

app = typer.Typer(
    name="bertpress",
    help="Compression studies of BERT encoders: declared in YAML, cached, measured, and ended by a table.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (YAML)", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the study")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="VARIANT", help="Keep these variants; * matches")]
Variants = Annotated[
    list[str], typer.Argument(metavar="VARIANT", help="Names of variants; * matches", show_default=False)
]
Tasks = Annotated[str | None, typer.Option("--tasks", metavar="A,B", help="Keep these tasks")]
Seeds = Annotated[str | None, typer.Option("--seeds", metavar="0,1", help="Keep these seeds")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def main() -> None:
    """Run the command line; errors that a user can mend are printed without a stack."""
    try:
        app()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(WRONG)
    except SystemExit as ending:  # typer's ending, also of a KeyboardInterrupt
        if ending.code == STOPPED:
            sys.stderr.write("stopped; run the same command again to go on from here\n")
        raise


def _open(
    study: StudyFile, overrides: Overrides = None, only: Only = None, tasks: Tasks = None, seeds: Seeds = None
) -> "Project":
    from flows.project import open_project
    from tasks.settings import current_settings

    try:
        wanted = [int(seed) for seed in seeds.split(",")] if seeds else []
    except ValueError:
        raise UserError(
            f"--seeds {seeds}: seeds are whole numbers with commas between, for example --seeds 0,1"
        ) from None
    return open_project(
        study,
        current_settings(),
        overrides=overrides or (),
        only=only or (),
        tasks=tasks.split(",") if tasks else (),
        seeds=wanted,
    )


def _on_study(command: Callable[..., None], *, name_variants: bool = False) -> Callable[..., None]:
    """Give a command the arguments of `_open`; it is called with the opened project in their place.

    Args:
        command: takes the project and its own arguments.
        name_variants: ask for the variants as an argument, in place of the option `--only`.

    Returns:
        What typer makes a command of.
    """
    opening = dict(signature(_open).parameters)
    if name_variants:
        opening["only"] = opening["only"].replace(annotation=Variants, default=Parameter.empty)
    own = list(signature(command).parameters.values())[1:]
    parameters = [given.replace(kind=Parameter.KEYWORD_ONLY) for given in (*opening.values(), *own)]

    @wraps(command)
    def on_project(**given: Any) -> None:
        command(_open(**{name: given.pop(name) for name in opening}), **given)

    # typer reads both.
    on_project.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    on_project.__annotations__ = {given.name: given.annotation for given in parameters}
    return on_project


def _console() -> "Console":
    from rich.console import Console

    # Into a file or a pipe, rich would cut at 80 columns.
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


@app.command()
@_on_study
def run(project: "Project", as_json: AsJson = False) -> None:
    """Run a study: reuse what is cached, compute the rest, print the table."""
    from flows.running import run_project

    outcome = run_project(project)
    if as_json:
        sys.stdout.write(outcome.table.to_json() + "\n")
    else:
        from flows.terminal import show_outcome

        show_outcome(_console(), project, outcome)
    if outcome.failures:
        raise typer.Exit(FAILED)


@app.command()
@_on_study
def plan(project: "Project", as_json: AsJson = False) -> None:
    """Show the graph of stages, and for each whether it would run or be reused, and why."""
    from flows.terminal import plan_records, show_plan

    plans = project.plan()
    if as_json:
        _print_json(plan_records(project, plans))
    else:
        show_plan(_console(), project, plans)


@app.command()
@partial(_on_study, name_variants=True)
def explain(project: "Project", as_json: AsJson = False) -> None:
    """Show what the cache keys of a variant's stages are made of, and what changed since the last run."""
    from flows.terminal import explanation_records, show_explanation

    records = explanation_records(project)
    if as_json:
        _print_json(records)
    else:
        show_explanation(_console(), records)


@app.command()
@_on_study
def report(
    project: "Project",
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="markdown, csv, latex, json, html, svg, png; all by default")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write to")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the table and the plot of what is in the cache; nothing is run."""
    from flows.report import FORMATS
    from flows.reporting import measured_table, write_report
    from flows.run_record import run_records
    from flows.terminal import show_table

    table = measured_table(project)
    record = next(run_records(project.settings, project.name), None)
    files = write_report(project, table, record, output, formats or tuple(FORMATS))
    if as_json:
        sys.stdout.write(table.to_json() + "\n")
        return
    show_table(_console(), project, table)
    for file in files:
        sys.stdout.write(f"{file}\n")


@app.command("list")
def list_studies(as_json: AsJson = False) -> None:
    """List the studies that were run here, with their last run."""
    from flows.terminal import show_studies, study_records
    from tasks.settings import current_settings

    records = study_records(current_settings())
    if as_json:
        _print_json(records)
    else:
        show_studies(_console(), records)


@app.command()
def published(
    name: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A table, `tinybert.t3`, or a paper, `tinybert`; lists all otherwise"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the figures that papers print, with their source, split and known inconsistencies."""
    from compression.analysis.published import load_published
    from flows.published import entry_record, is_paper, list_records, show_entry, show_list

    figures = load_published()
    if name is None or is_paper(figures, name):
        records = list_records(figures, name)
        if as_json:
            _print_json(records)
        else:
            show_list(_console(), records)
    elif as_json:
        _print_json(entry_record(figures, name))
    else:
        show_entry(_console(), figures, name)


@app.command()
def params(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A preset (bert-base), a YAML or JSON file with a shape, a model folder, or a study",
            show_default=False,
        ),
    ],
    variant: Annotated[str | None, typer.Argument(metavar="VARIANT", help="Variant of the study")] = None,
    length: Annotated[int, typer.Option("--length", min=1, help="Word pieces that operations are counted for")] = 128,
    head: Annotated[
        str | None,
        typer.Option("--head", help="none, masked_lm, classifier or question_answering; by default as saved"),
    ] = None,
    labels: Annotated[int | None, typer.Option("--labels", min=1, help="Outputs of a classifier")] = None,
    pooler: Annotated[bool | None, typer.Option("--pooler/--no-pooler", help="Count a pooler, or none")] = None,
    as_json: AsJson = False,
) -> None:
    """Count the parameters of an encoder by part, and its operations; nothing is loaded or allocated."""
    from flows.parameters import find_model, parameter_record, show_parameters
    from tasks.settings import current_settings

    model = find_model(target, variant, current_settings()).changed(head=head, labels=labels, pooler=pooler)
    record = parameter_record(model, length)
    if as_json:
        _print_json(record)
    else:
        show_parameters(_console(), model, record)


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; standard output otherwise")
    ] = None,
) -> None:
    """Write the JSON Schema of study files, by which editors complete and check them."""
    from flows.json_schema import study_schema

    text = json.dumps(study_schema(), indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        from tasks.artifact_store import write_aside

        write_aside(output, text)


@app.command()
def clean(
    remove: Annotated[bool, typer.Option("--yes", help="Really remove; otherwise only show")] = False,
    keep_runs: Annotated[
        int | None, typer.Option("--keep-runs", min=0, help="Forget all but this many latest runs of each study first")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove artifacts, records and leftovers that no run references; shows them only, unless --yes is given."""
    from flows.cleaning import clean as remove_all
    from flows.cleaning import plan_cleaning
    from flows.terminal import removal_records, show_removals
    from tasks.settings import current_settings

    settings = current_settings()
    removals = plan_cleaning(settings, keep_runs=keep_runs)
    if remove:
        remove_all(removals, settings)
    if as_json:
        _print_json(removal_records(removals))
    else:
        show_removals(_console(), removals, removed=remove)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder, hub name or package:NAME/FOLDER", show_default=False)
    ],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to write", show_default=False)],
    form: Annotated[
        str, typer.Option("--to", help="bertpress, plain (transformers' own classes) or onnx")
    ] = "bertpress",
    code: Annotated[
        bool, typer.Option("--code", help="Add the encoder's code: the folder then loads without bertpress")
    ] = False,
) -> None:
    """Write a model in another form: as an encoder of any shape, as a plain transformers model, or as ONNX."""
    from flows.model_folders import convert_folder

    sys.stdout.write(convert_folder(source, target, form, code=code) + "\n")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on this machine")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
) -> None:
    """Open MLflow's browser interface on the results, on this machine only unless another address is asked for."""
    from tasks import mlflow_store
    from tasks.settings import current_settings

    settings = current_settings()
    mlflow_store.prepare(settings.tracking_uri, settings.lock_folder)
    command, environment = mlflow_store.ui_command(settings.tracking_uri, host=host, port=port)
    sys.stderr.write(f"MLflow on http://{host}:{port}  (Ctrl-C ends it)\n")
    os.execvpe(command[0], command, {**os.environ, **environment})  # noqa: S606 - a fixed command, no shell
