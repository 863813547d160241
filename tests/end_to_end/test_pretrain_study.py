"""A study whose chains begin with masked-language modelling, through the real command line."""

from world import World

from flows.planning import NodePlan
from flows.project import open_project
from tasks.settings import Settings

STUDY = """
name: tiny
teacher: {model: encoder}
tasks:
  - {name: mood, files: {train: mood.csv}, evaluation_fraction: 0.25, selection_fraction: 0.2, max_length: 16}
defaults:
  pretrain: {corpus: {files: "texts/*.txt", validation_fraction: 0.2}, batch_size: 16, max_length: 16}
  finetune: {learning_rate: 0.01, batch_size: 16, epochs: 1}
  evaluate: {latency_repeats: 5, latency_warmup: 1, latency_length: 8}
variants:
  pretrained: [pretrain, finetune]
"""


def planned(world: World) -> list[NodePlan]:
    settings = Settings(home=world.home, device="cpu", precision="fp32", threads=1)
    return open_project(world.study, settings).plan()


def test_pretrained_once_and_again_when_the_text_changes(world: World):
    world.study.write_text(STUDY)
    texts = world.study.parent / "texts"
    texts.mkdir()
    rows = (world.study.parent / "mood.csv").read_text().splitlines()[1:]
    (texts / "mood.txt").write_text("\n".join(row.split(",")[0] for row in rows))
    table = world.run()
    assert [row["variant"] for row in table["rows"]] == ["pretrained"]
    [stage] = world.mlflow_runs("tags.stage = 'pretrain'")
    assert stage.data.metrics["curves/masked_lm"] > 0
    assert [used.dataset.name for used in stage.inputs.dataset_inputs] == ["texts/*.txt"]
    assert {plan.status for plan in planned(world)} == {"reuse"}

    (texts / "mood.txt").write_text("\n".join(row.split(",")[0] for row in reversed(rows)))
    first, *_ = planned(world)
    assert first.status == "run"
    assert first.reason.startswith("changed: corpus ")
    assert ";" not in first.reason
    again = world.run()
    assert [cell["cached"] for row in again["rows"] for cell in row["cells"]] == [False]
