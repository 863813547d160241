import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.data.rows import Rows
from compression.data.splits import hold_out, limit_rows
from compression.errors import DataError


def make(texts, pairs=None, labels=None):
    labels = np.zeros(len(texts), np.int64) if labels is None else np.asarray(labels)
    return Rows(np.arange(1, len(texts) + 1), list(texts), pairs, labels)


def many(count, seed=0):
    """Rows in which every third text occurs again, in other case and spacing."""
    generator = np.random.default_rng(seed)
    texts = [f"Text number {number}" for number in range(count)]
    texts += [f" text  NUMBER {number}" for number in range(0, count, 3)]
    return make([texts[place] for place in generator.permutation(len(texts))])


def plain(text):
    return " ".join(text.lower().split())


def test_the_share_is_kept_and_equal_texts_stay_together():
    rows = many(900)
    rest, held_out = hold_out(rows, 0.1, seed=0, split="selection")
    assert len(rest) + len(held_out) == len(rows)
    assert set(rest.ids).isdisjoint(held_out.ids)
    assert len(held_out) in {120, 121}  # the last text may bring its double along
    assert {plain(text) for text in rest.texts}.isdisjoint(plain(text) for text in held_out.texts)


def test_pairs_stay_together_only_when_both_texts_are_equal():
    rows = make(["question"] * 100, [f"answer {number // 2}" for number in range(100)])
    rest, held_out = hold_out(rows, 0.2, seed=0, split="evaluation")
    assert len(held_out) == 20
    assert set(rest.pairs or ()).isdisjoint(held_out.pairs or ())


@given(order=st.permutations(range(40)), fraction=st.floats(0.05, 0.9), limit=st.integers(1, 45))
def test_the_order_of_the_file_does_not_matter(order, fraction, limit):
    rows = make([f"text {number // 2}" for number in range(40)], labels=[number % 3 for number in range(40)])
    shuffled = rows.take(np.array(order))

    def content(part):
        return sorted(zip(part.texts, part.labels.tolist(), strict=True))

    for one, other in zip(
        hold_out(rows, fraction, 1, "selection"), hold_out(shuffled, fraction, 1, "selection"), strict=True
    ):
        assert content(one) == content(other)
    assert content(limit_rows(rows, limit, 1)) == content(limit_rows(shuffled, limit, 1))


def test_seed_and_split_choose_other_rows():
    rows = many(300)
    chosen = [
        frozenset(hold_out(rows, 0.1, seed, split)[1].ids.tolist())
        for seed, split in [(0, "selection"), (1, "selection"), (0, "evaluation")]
    ]
    assert len(set(chosen)) == 3
    assert chosen[0] == frozenset(hold_out(rows, 0.1, 0, "selection")[1].ids.tolist())


def test_held_out_rows_are_a_fair_sample():
    """Labels are independent of the hash: the held-out share of positives is within 4 standard errors of a half."""
    labels = np.arange(20_000) % 2
    rows = make([f"film {number}" for number in range(20_000)], labels=labels)
    held_out = hold_out(rows, 0.1, seed=0, split="selection")[1]
    assert abs(held_out.labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(held_out))


def test_the_smallest_sets_still_split():
    for fraction in (0.01, 0.99):
        rest, held_out = hold_out(make(["a", "b"]), fraction, 0, "selection")
        assert (len(rest), len(held_out)) == (1, 1)
    with pytest.raises(DataError, match=r"cannot hold the selection split out of 3 rows with 1 different texts"):
        hold_out(make(["same", "Same", "same "]), 0.1, 0, "selection")


def test_limits_are_nested_keep_the_order_and_spare_no_repeated_text():
    rows = make(["again"] * 300 + [f"text {number}" for number in range(300)])
    smaller, larger = limit_rows(rows, 60, 0), limit_rows(rows, 200, 0)
    assert len(smaller) == 60
    assert set(smaller.ids) < set(larger.ids)
    assert list(larger.ids) == sorted(larger.ids)
    assert 70 < sum(text == "again" for text in larger.texts) < 130
    assert set(limit_rows(rows, 60, 1).ids) != set(smaller.ids)
    assert limit_rows(rows, 600, 0) is rows
    assert limit_rows(rows, None, 0) is rows
