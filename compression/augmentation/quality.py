"""What an augmentation came to: how much was replaced, and what a teacher thinks of it."""

from collections.abc import Mapping, Sequence
from typing import Any

QUALITY_FILE = "quality.json"

COUNTS = (
    "source_rows",  # rows that copies were made of
    "rows",  # rows that came out, the originals among them
    "labelled",  # of them, texts that the teacher labelled
    "drawn",  # copies that were drawn
    "same",  # of them, dropped because the row had the same text already
    "dropped",  # dropped because the teacher's output moved too far
    "words",  # words of the copies that were kept
    "changed",  # of them, other than in the original
    "replaceable",  # words of the originals that may be replaced
    "without_candidates",  # of them, without any candidate
    "words_without_vector",  # different words that were looked for among the vectors and are not there
    "repeated_vectors",  # words that stand in the file of vectors more than once
    "judged",  # copies that the teacher saw
    "agreeing",  # of them, given the original's label by the teacher
    "shift",  # sum of the teacher's shifts over them
)
"""What is counted in every shard."""


def report(shards: Sequence[Mapping[str, Any]], examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum the counts of all shards up.

    Args:
        shards: counts of each; a count that is absent is 0.
        examples: originals and copies to show.

    Returns:
        The sums; `share_changed` of the copies' words, `share_same` and `share_dropped` of the copies drawn; when a
        teacher judged, `mean_shift` and, for classes, `label_agreement`; and the examples.

    Example:
        >>> report([{"words": 10, "changed": 4}, {"words": 10, "changed": 2}], [])["share_changed"]
        0.3
    """
    sums = {name: sum(counts.get(name, 0) for counts in shards) for name in COUNTS}
    total_shift = sums.pop("shift")
    shares = {
        "share_changed": _share(sums["changed"], sums["words"]),
        "share_same": _share(sums["same"], sums["drawn"]),
        "share_dropped": _share(sums["dropped"], sums["drawn"]),
    }
    if sums["judged"]:
        shares["mean_shift"] = round(total_shift / sums["judged"], 6)
        if any("agreeing" in counts for counts in shards):
            shares["label_agreement"] = _share(sums["agreeing"], sums["judged"])
    return {**sums, **shares, "examples": list(examples)}


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
