"""`bertpress params`: counted before anything is allocated, and what transformers really allocates."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AlbertConfig, BertConfig, DistilBertConfig

from compression.architecture.presets import PRESETS
from compression.errors import UserError
from flows.command_line import main
from flows.parameters import find_model, parameter_record, summary
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture
def count(settings):
    """Parameters of a target, as `--json` gives them."""

    def counted(target, variant=None, **changes):
        model = find_model(str(target), variant, settings)
        changes = {"head": None, "labels": None, "pooler": None} | changes
        return parameter_record(model.changed(**changes), 128)["parameters"]

    return counted


CONFIGS = {
    "Bert": BertConfig(vocab_size=31, hidden_size=12, num_hidden_layers=3, num_attention_heads=3, intermediate_size=20),
    "DistilBert": DistilBertConfig(vocab_size=31, dim=12, n_layers=2, n_heads=3, hidden_dim=20),
    "Albert": AlbertConfig(
        vocab_size=31, embedding_size=5, hidden_size=12, num_hidden_layers=4, num_hidden_groups=2,
        num_attention_heads=3, intermediate_size=20,
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM", "ForSequenceClassification", "ForQuestionAnswering"])
@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_folder_counts_as_what_transformers_allocates(tmp_path, count, family, ending):
    config = copy.deepcopy(CONFIGS[family])
    config.num_labels = 2 if ending == "ForQuestionAnswering" else 5
    config.architectures = [f"{family}{ending}"]
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = getattr(transformers, f"{family}{ending}")(config)
    assert count(tmp_path) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("preset", "head", "known"),
    [
        ("bert-tiny", "classifier", 4_386_178),
        ("bert-base", "classifier", 109_483_778),
        ("bert-base", "masked_lm", 109_514_298),
        ("distilbert-6l", "classifier", 66_955_010),
        ("albert-base", "none", 11_683_584),
    ],
)
def test_presets_have_the_counts_of_the_released_models(count, preset, head, known):
    assert count(preset, head=head) == known


def test_a_pooler_can_be_left_out(count):
    assert count("distilbert-6l") - count("distilbert-6l", pooler=False) == 768**2 + 768
    assert count("distilbert-6l", pooler=False) == 66_362_880, "DistilBERT's 66 M"


STUDY = """
name: counted
teacher: {model: model, seed: 0}
tasks: [TASKS]
variants:
  teacher: [finetune]
  small: [{task_distill: {student: bert-tiny}}]
  quantized: {from: small, then: [quantize]}
  shapes: {stages: [task_distill], matrix: {task_distill.student.preset: [bert-tiny, bert-mini]}}
"""


@pytest.fixture
def study(tmp_path):
    def write(tasks):
        config = {"model_type": "bert", "vocab_size": 30522}
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        (tmp_path / "model" / "model.safetensors").write_bytes(b"")
        path = tmp_path / "study.yaml"
        path.write_text(STUDY.replace("TASKS", tasks))
        return path

    return write


def test_a_variant_counts_with_the_head_of_its_largest_task(count, study):
    path = study("sst2, stsb")
    assert count(path, "teacher") == 109_483_778
    assert count(path, "small") == count(path, "quantized") == 4_386_178
    assert count(path, "shapes[preset=bert-tiny]") == 4_386_178


def test_a_users_own_task_has_a_head_where_the_labels_are_listed(count, study, settings):
    path = study("{name: own, files: {train: own.csv}, labels: [a, b, c]}, {name: more, files: {train: own.csv}}")
    model = find_model(str(path), "small", settings)
    assert model.head == "none"
    assert "--head classifier --labels N" in model.note
    path.write_text(path.read_text().replace("{name: more, files: {train: own.csv}}", "stsb"))
    assert count(path, "small") == 4_386_178 + 128 + 1


def test_a_variant_of_a_model_that_is_not_here(study, settings):
    path = study("sst2")
    path.write_text(path.read_text().replace("model: model", "model: nobody/nothing"))
    with pytest.raises(UserError, match=r"shape of teacher is not known before nobody/nothing has been downloaded"):
        find_model(str(path), "teacher", settings)


def test_an_ambiguous_or_missing_variant(study, settings):
    path = study("sst2")
    with pytest.raises(UserError, match="'shapes' stands for 2 variants"):
        find_model(str(path), "shapes", settings)
    with pytest.raises(UserError, match="did you mean 'small'"):
        find_model(str(path), "smal", settings)
    with pytest.raises(UserError, match=r"is a study: name one of its variants too.*teacher, small, quantized, shapes"):
        find_model(str(path), None, settings)


def test_a_shape_in_a_few_words(tmp_path, count):
    described = "preset: bert-base\nvocabulary_size: 30000\nembedding_size: 128\nshare: all\n"
    (tmp_path / "shape.yaml").write_text(described)
    assert count(tmp_path / "shape.yaml") == count("albert-base")
    (tmp_path / "shape.json").write_text('{"layers": 2, "hidden_size": 128, "heads": 2, "intermediate_size": 512}')
    assert count(tmp_path / "shape.json") == count("bert-tiny")


def test_the_shape_that_is_printed_can_be_edited_and_counted(tmp_path, count, settings):
    record = parameter_record(find_model("bert-base", None, settings), 128)
    shape = record["shape"] | {"attention_heads": [12] * 11 + [0]}
    (tmp_path / "pruned.json").write_text(json.dumps(shape))
    # of the last attention block the output's bias and the LayerNorm stay
    assert record["parameters"] - count(tmp_path / "pruned.json") == 4 * 768**2 + 3 * 768
    assert summary(find_model(str(tmp_path / "pruned.json"), None, settings).shape) == (
        "12 layers of width 768; 0 to 12 heads of 64; feed-forward 3,072"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: bert-bas", "shape.yaml:1: unknown preset 'bert-bas'.*did you mean 'bert-base'"),
        ("preset: bert-base\nlayerz: 3", r"shape.yaml:2: layerz: unknown field; given 'layerz'.*did you mean 'layers'"),
        ("layers: 2\nhidden_size: 8", "needs a `preset`, or all of layers, hidden_size, heads, intermediate_size"),
        ("model_type: gpt2", "a 'gpt2' model cannot be edited"),
        ("attention_blocks: [0]", "`hidden_size` is missing"),
        ("[1, 2", "not valid YAML"),
    ],
)
def test_a_wrong_shape_file_says_where(tmp_path, settings, text, message):
    (tmp_path / "shape.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        find_model(str(tmp_path / "shape.yaml"), None, settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bert-bas"], "no preset, file or folder.*did you mean 'bert-base'"),
        (["package:nothing_here/model"], "nothing_here"),
        (["absent.yaml"], "absent.yaml: no such file"),
        (["bert-base", "--head", "clasifier"], "unknown head.*did you mean 'classifier'"),
        (["bert-base", "--labels", "3"], "--labels 3 is for a classifier, and the head is none"),
        (["bert-base", "--length", "513"], "--length 513: the encoder takes 512 word pieces at most"),
    ],
)
def test_wrong_commands_end_with_exit_code_2(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["bertpress", "params", *arguments])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_what_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bertpress", "params", "tinybert-4l-312"])
    with pytest.raises(SystemExit):
        main()
    text = capsys.readouterr().out
    assert "4 layers of width 312; 12 heads of 26; feed-forward 1,200" in text
    assert [line.split()[-3] for line in text.splitlines() if line.startswith("pooler")] == ["97,656"]
    assert "14,350,248  14.35M" in text
    assert "(1.25 GFLOPs), without the head" in text, "TinyBERT's Table 1 prints 1.2"


def test_nothing_heavy_is_imported_and_a_study_is_read(study):
    program = (
        "import sys; from flows.command_line import app\n"
        "app(['params', *sys.argv[1:], '--json'], standalone_mode=False)\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'pandas', 'prefect', 'mlflow'}))"
    )
    for arguments in (["bert-base"], [str(study("sst2")), "small"]):
        run = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        output, _, heavy = run.stdout.rstrip().rpartition("\n")
        assert heavy == "[]"
        assert json.loads(output)["parameters"] > 4e6


def test_every_preset_can_be_counted(count):
    counts = {name: count(name) for name in PRESETS}
    assert counts["bert-tiny"] < counts["bert-mini"] < counts["bert-base"] < counts["bert-large"]
