"""Augmentation as a whole: rows, labels, pairs, filters, shards, and what an interruption leaves."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas
import pytest
import tiny_masked_lm
import torch
from tiny_masked_lm import VOCABULARY
from transformers import BertConfig, BertForSequenceClassification, BertModel

from compression.architecture.checkpoint import save_checkpoint
from compression.augmentation import augment, teacher
from compression.augmentation.augment import Folders, Sources, apply
from compression.augmentation.config import AugmentConfig
from compression.augmentation.shards import read_rows
from compression.control import Control, Progress
from compression.data.config import TaskConfig
from compression.data.encoding import labels_of
from compression.errors import CheckpointError, DataError, Interrupted, UserError
from compression.runtime import Runtime
from compression.training.predict import TOKENS_A_BATCH

TEXTS = [
    "The good film was slowly darkish!",
    "calm music is not sadly dark",
    "The good film was slowly darkish!",
    "was it the",
    "A LOUD scene, a poor plot; xyz.",
    "short",
    "great cast and happy actor so long",
]


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """A masked LM, word vectors as text, a teacher and texts without labels."""
    folder = tmp_path_factory.mktemp("sources")
    save_checkpoint(tiny_masked_lm.masked_lm(), tiny_masked_lm.tokenizer(), folder / "masked")
    words = tiny_masked_lm.vectors()
    lines = [
        f"{word} {' '.join(map(str, vector))}" for word, vector in zip(words.words, words.matrix.tolist(), strict=True)
    ]
    (folder / "vectors.txt").write_text("\n".join(lines))
    save_teacher(folder / "teacher", ("no", "yes"))
    (folder / "texts.txt").write_text("a fine book\n\nso quick and bright\nloud\n")
    return folder


def save_teacher(folder, names):
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_checkpoint(BertForSequenceClassification(config), tiny_masked_lm.tokenizer(), folder)


def run(sources, output, data, *, seed=0, work=None, control=None, rows_a_shard=augment.ROWS_A_SHARD, **changes):
    """Augment and read the rows back; returns them and the quality report."""
    config = AugmentConfig(**{"candidates": 4, "copies": 6, "vectors": "vectors.txt", **changes})
    given = Sources(
        masked_lm=sources / "masked" if config.uses_masked_lm else None,
        vectors=sources / "vectors.txt" if config.uses_vectors else None,
        teacher=sources / "teacher" if config.asks_teacher else None,
        unlabelled=sources / config.unlabelled.file if config.unlabelled else None,
    )
    output.mkdir(parents=True)
    work = work or output.with_name(f"{output.name}-work")
    folders = Folders(work / "shards", work / "candidates", work / "vectors", output)
    apply(
        data,
        config,
        given,
        folders,
        seed=seed,
        runtime=Runtime(),
        control=control or Control(),
        rows_a_shard=rows_a_shard,
    )
    return read_rows(output), json.loads((output / "quality.json").read_text())


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rows_are_originals_each_followed_by_its_copies(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS, labels=[0, 1, 0, 1, 1, 0, 1])
    rows, quality = run(sources, tmp_path / "out", data)
    assert list(rows.columns) == ["id", "copy", "text", "label"]
    originals = rows[rows["copy"] == 0]
    assert originals["text"].tolist() == TEXTS
    assert originals["label"].tolist() == [0, 1, 0, 1, 1, 0, 1]
    assert rows["id"].is_monotonic_increasing
    labels = dict(zip(originals["id"], originals["label"], strict=True))
    for identity, group in rows.groupby("id"):
        assert group["copy"].tolist() == list(range(len(group))), "the original first"
        assert group["text"].is_unique
        assert set(group["label"]) == {labels[identity]}
        assert len(group) <= 7
    assert (rows["id"] == 4).sum() == 1, "nothing in it can be replaced"
    assert quality["source_rows"] == 7
    assert quality["rows"] == len(rows)
    assert quality["drawn"] == 42
    assert quality["rows"] == quality["source_rows"] + quality["drawn"] - quality["same"] - quality["dropped"]
    assert quality["words_without_vector"] == 1
    changed = words = 0
    for _, copy in rows[rows["copy"] > 0].iterrows():
        before, after = TEXTS[copy["id"] - 1].split(), copy["text"].split()
        changed += sum(one != other for one, other in zip(before, after, strict=True))
        words += len(before)
    assert (quality["changed"], quality["words"]) == (changed, words)
    assert quality["share_changed"] == pytest.approx(changed / words, abs=1e-6)


def test_equal_texts_of_two_rows_get_draws_of_their_own(tmp_path, sources):
    rows, _ = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS))
    assert rows[rows["id"] == 1]["text"].tolist() != rows[rows["id"] == 3]["text"].tolist()


def test_the_task_is_left_as_it_is(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS, TEXTS[::-1])
    before = data.train.copy(deep=True)
    run(sources, tmp_path / "out", data)
    pandas.testing.assert_frame_equal(data.train, before)


def test_of_a_pair_one_text_changes_while_the_other_stays(tmp_path, sources):
    """The released code kept the last augmented first text while the second one varied."""
    rows, quality = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS, TEXTS[::-1]))
    for identity, group in rows.groupby("id"):
        first, second = TEXTS[identity - 1], TEXTS[::-1][identity - 1]
        new_first, new_second = (group["text"] != first).tolist(), (group["text_pair"] != second).tolist()
        assert not any(a and b for a, b in zip(new_first, new_second, strict=True))
        # First the original, then copies with another first text, then copies with another second text.
        assert [a or b for a, b in zip(new_first, new_second, strict=True)] == [False] + [True] * (len(group) - 1)
        if True in new_second:
            assert True not in new_first[new_second.index(True) :]
    assert quality["drawn"] == 2 * 6 * len(TEXTS)


def test_both_texts_of_a_pair_draw_apart(tmp_path, sources):
    rows, _ = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS[:1], TEXTS[:1]))
    first = rows[rows["text"] != TEXTS[0]]["text"].tolist()
    second = rows[rows["text_pair"] != TEXTS[0]]["text_pair"].tolist()
    assert first
    assert second
    assert first != second


@pytest.mark.parametrize("rows_a_shard", [1, 2, 3, 100])
def test_the_size_of_shards_and_batches_changes_no_row(tmp_path, sources, monkeypatch, rows_a_shard):
    data = tiny_masked_lm.task(TEXTS)
    expected, expected_quality = run(sources, tmp_path / "expected", data)
    monkeypatch.setitem(TOKENS_A_BATCH, "cpu", 20 * rows_a_shard)
    rows, quality = run(sources, tmp_path / "out", data, rows_a_shard=rows_a_shard)
    pandas.testing.assert_frame_equal(rows, expected)
    assert {**quality, "examples": []} == {**expected_quality, "examples": []}


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_rows(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(sources, tmp_path / name, data, seed=seed)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


@pytest.mark.parametrize("changes", [{"replace_probability": 0.0}, {"copies": 0}, {"method": "none"}])
def test_nothing_to_replace_leaves_the_rows(tmp_path, sources, changes):
    rows, quality = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS), **changes)
    assert rows["text"].tolist() == TEXTS
    assert rows["copy"].tolist() == [0] * len(TEXTS)
    assert quality["rows"] == len(TEXTS)
    assert quality["share_changed"] == 0


def test_a_stop_costs_no_more_than_the_shard_at_work(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS)
    run(sources, tmp_path / "undisturbed", data, rows_a_shard=2)
    work = tmp_path / "work"
    seen: list[int] = []
    for attempt in range(200):
        looks = iter(range(1000))
        try:
            run(
                sources,
                tmp_path / f"attempt{attempt}",
                data,
                work=work,
                rows_a_shard=2,
                control=Control(should_stop=lambda looks=looks, attempt=attempt: next(looks) == attempt),
            )
        except Interrupted:
            assert not any((tmp_path / f"attempt{attempt}").iterdir())
            seen.append(len(list((work / "shards").glob("train-*.parquet"))))
        else:
            break
    assert seen == sorted(seen)
    assert min(seen) == 0 < max(seen)
    assert content(tmp_path / f"attempt{attempt}") == content(tmp_path / "undisturbed")


def test_a_kill_leaves_whole_shards(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS * 40)
    _, expected = run(sources, tmp_path / "undisturbed", data, rows_a_shard=4, method="glove", copies=3)
    code = f"""
        import os, signal, sys
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[3])]!r}
        from pathlib import Path
        import tiny_masked_lm, test_augment
        from compression.augmentation import augment
        write = augment.write_shard
        def killing(path, *rest):
            write(path, *rest)
            if path.name == "train-00030.parquet":
                path.with_name("train-00031.parquet.77").write_bytes(b"half a shard")
                os.kill(os.getpid(), signal.SIGKILL)
        augment.write_shard = killing
        test_augment.run(Path({str(sources)!r}), Path({str(tmp_path)!r}) / "killed",
            tiny_masked_lm.task(test_augment.TEXTS * 40), rows_a_shard=4, method="glove", copies=3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    work = tmp_path / "killed-work"
    kept = sorted((work / "shards").glob("train-*.parquet"))
    assert len(kept) == 31
    kept[7].write_bytes(kept[7].read_bytes()[:200])  # a disk may lose a file in a crash
    times = {path.name: path.stat().st_mtime_ns for path in kept}
    started: list[int] = []

    class Watching(Progress):
        def start(self, description, total, *, unit="step", done=0):
            started.append(done) if description == "augmenting" else None

    _, quality = run(
        sources,
        tmp_path / "resumed",
        data,
        work=work,
        rows_a_shard=4,
        method="glove",
        copies=3,
        control=Control(Watching()),
    )
    assert started == [30 * 4]
    assert quality == expected
    assert content(tmp_path / "resumed") == content(tmp_path / "undisturbed")
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "resumed").glob("train-*.parquet")}
    assert sum(again[name] == time for name, time in times.items()) == 30, "whole shards were not made again"


def test_copies_that_move_the_teacher_too_far_are_dropped(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS)
    everything, _ = run(sources, tmp_path / "all", data)
    rows, quality = run(sources, tmp_path / "out", data, max_shift=0.15)
    judge = teacher.Judge(sources / "teacher", data, runtime=Runtime(), control=Control())
    outputs = judge.outputs(everything)
    before = outputs[(everything["copy"] == 0).to_numpy()][everything["id"] - 1]
    moved = np.abs(before - outputs).sum(axis=1) / 2
    copies = (everything["copy"] > 0).to_numpy()
    kept = everything[~(copies & (moved > 0.15))].reset_index(drop=True)
    assert 0 < quality["dropped"] < copies.sum()
    assert quality["dropped"] == len(everything) - len(kept)
    pandas.testing.assert_frame_equal(rows, kept)
    assert quality["judged"] == copies.sum()
    assert quality["mean_shift"] == pytest.approx(moved[copies].mean(), abs=1e-5)
    agreeing = before[copies].argmax(axis=1) == outputs[copies].argmax(axis=1)
    assert quality["label_agreement"] == pytest.approx(agreeing.mean(), abs=1e-6)


def test_a_sample_is_judged_and_nothing_dropped(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS)
    everything, _ = run(sources, tmp_path / "all", data)
    rows, quality = run(sources, tmp_path / "out", data, quality_sample=3, rows_a_shard=2)
    pandas.testing.assert_frame_equal(rows, everything)
    assert quality["judged"] == 2, "rows 1, 4 and 7, of which row 4 has no copy"
    assert quality["dropped"] == 0
    assert 0 <= quality["label_agreement"] <= 1


def test_regression_moves_by_a_difference(tmp_path, sources):
    other = tmp_path / "sources"
    shutil.copytree(sources, other)
    save_teacher(other / "teacher", ("score",))
    data = tiny_masked_lm.task(TEXTS, problem="regression")
    rows, quality = run(other, tmp_path / "out", data, max_shift=0.3)
    assert rows["label"].dtype == np.float64
    assert 0 < quality["dropped"] < quality["judged"]
    assert "label_agreement" not in quality
    labels = dict(zip(data.train["id"], data.train["label"], strict=True))
    assert (rows["label"] == rows["id"].map(labels)).all()


def test_several_labels(tmp_path, sources):
    gold = [np.array([number % 2, 1.0]) for number in range(len(TEXTS))]
    data = tiny_masked_lm.task(TEXTS, problem="multi_label", labels=gold)
    rows, quality = run(sources, tmp_path / "out", data, max_shift=0.05)
    assert all((row["label"] == gold[row["id"] - 1]).all() for _, row in rows.iterrows())
    np.testing.assert_array_equal(labels_of(rows), np.stack([gold[number - 1] for number in rows["id"]]))
    assert 0 < quality["dropped"] < quality["judged"]
    given = {"method": "unlabelled", "unlabelled": "texts.txt"}
    labelled, _ = run(sources, tmp_path / "labelled", data, **given)
    outputs = teacher.Judge(sources / "teacher", data, runtime=Runtime(), control=Control()).outputs(labelled)
    assert outputs.sum(axis=1).max() > 1, "probabilities of labels that do not exclude each other"
    np.testing.assert_array_equal(labels_of(labelled)[-3:], outputs[-3:] >= 0.5)


@pytest.mark.parametrize(("problem", "expected"), [("classification", 0.4), ("multi_label", 0.3), ("regression", 0.3)])
def test_how_far_an_output_moves(problem, expected):
    before, after = np.array([[0.4, 0.3, 0.2, 0.1]]), np.array([[0.1, 0.2, 0.3, 0.4]])
    if problem == "regression":
        before, after = before[:, :1], after[:, :1]
    assert teacher.shift(before, after, problem) == pytest.approx([expected])


def test_spans_are_refused():
    with pytest.raises(UserError, match="predicts spans of its texts"):
        AugmentConfig().for_task(TaskConfig(name="squad"))


def test_texts_without_labels_are_labelled_by_the_teacher(tmp_path, sources):
    data = tiny_masked_lm.task(TEXTS)
    rows, quality = run(sources, tmp_path / "out", data, method="unlabelled", unlabelled="texts.txt", rows_a_shard=2)
    assert rows["text"].tolist() == [*TEXTS, "a fine book", "so quick and bright", "loud"]
    assert rows["copy"].tolist() == [0] * 7 + [-1] * 3
    new = rows[rows["copy"] == -1]
    judge = teacher.Judge(sources / "teacher", data, runtime=Runtime(), control=Control())
    assert new["label"].tolist() == judge.outputs(new).argmax(axis=1).tolist()
    assert rows["label"].dtype == np.int64
    assert (quality["labelled"], quality["rows"]) == (3, 10)


def test_texts_without_labels_from_a_table(tmp_path, sources):
    pandas.DataFrame({"a": ["good", "bad", "sad"], "b": ["film", "book", "plot"]}).to_parquet(sources / "pairs.parquet")
    given = {"file": "pairs.parquet", "text": ["b", "a"], "limit": 2}
    rows, _ = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS, TEXTS), method="unlabelled", unlabelled=given)
    assert rows[rows["copy"] == -1][["text", "text_pair"]].to_numpy().tolist() == [["film", "good"], ["book", "bad"]]
    for wrong, message in (
        ({"file": "texts.txt"}, "two text columns"),
        ({"file": "pairs.parquet", "text": ["a", "c"]}, "no column 'c'"),
    ):
        with pytest.raises(DataError, match=message):
            run(
                sources,
                tmp_path / wrong["file"],
                tiny_masked_lm.task(TEXTS, TEXTS),
                method="unlabelled",
                unlabelled=wrong,
            )


def test_random_edits(tmp_path, sources):
    rows, quality = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS), method="eda")
    for _, copy in rows[rows["copy"] > 0].iterrows():
        assert set(copy["text"].split()) <= set(TEXTS[copy["id"] - 1].split())
    assert quality["rows"] > 20


def test_examples(tmp_path, sources):
    rows, quality = run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS))
    assert quality["examples"][0] == {"original": TEXTS[0], "copy": rows["text"][1]}
    assert len(quality["examples"]) == 6


def test_copies_of_the_released_code(tmp_path, sources):
    config = AugmentConfig(copies="tinybert")
    assert [config.for_task(TaskConfig(name=task)).copies for task in ("cola", "mnli", "sst2")] == [30, 10, 20]
    with pytest.raises(UserError, match="no number for task 'tiny'"):
        run(sources, tmp_path / "out", tiny_masked_lm.task(TEXTS), copies="tinybert")


def test_a_model_without_a_masked_lm_head(tmp_path, sources):
    other = tmp_path / "sources"
    shutil.copytree(sources, other)
    shutil.rmtree(other / "masked")
    save_checkpoint(BertModel(tiny_masked_lm.masked_lm().config), tiny_masked_lm.tokenizer(), other / "masked")
    with pytest.raises(CheckpointError, match="holds no masked-LM head"):
        run(other, tmp_path / "out", tiny_masked_lm.task(TEXTS))


def test_no_shards(tmp_path):
    with pytest.raises(DataError, match="holds no augmented rows"):
        read_rows(tmp_path)
    (tmp_path / "train-00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "unlabelled"}, "go together"),
        ({"unlabelled": "a.txt"}, "go together"),
        ({"masked_lm": "chain", "masked_lm_revision": "main"}, "on the hub"),
        ({"vectors": {"file": "a.npy"}}, "needs `vocabulary`"),
        ({"vectors": {"file": "a.txt", "vocabulary": "b.txt"}}, "has none"),
        ({"copies": -1}, "greater than or equal to 0"),
        ({"replace_probability": 1.1}, "less than or equal to 1"),
    ],
)
def test_configurations_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        AugmentConfig.model_validate(given)
