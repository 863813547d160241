"""Results in sentences that a person understands."""

from collections.abc import Iterable, Sequence

from compression.analysis.paired import Comparison
from compression.analysis.resampling import split_name
from compression.analysis.results import Verdict

_NAMES = {
    "accuracy": "accuracy",
    "f1": "F1",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "exact_match": "exact match",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
}


def metric_label(metric: str) -> str:
    """A metric's name as people write it.

    Args:
        metric: name as a cell records it.

    Returns:
        Readable name, the reported split in brackets.

    Example:
        >>> metric_label("macro_f1"), metric_label("accuracy_mismatched"), metric_label("em")
        ('macro F1', 'accuracy (mismatched)', 'em')
    """
    name, split = split_name(metric)
    return _NAMES.get(name, name) + (f" ({split})" if split else "")


def points(value: float, *, sign: bool = False, digits: int = 1) -> str:
    """A score or difference in hundredths, as GLUE tables print it, with a true minus sign.

    Args:
        value: natural units.
        sign: write a plus too.
        digits: decimals.

    Returns:
        For example `91.2`, or `+0.4` with a sign; a value that rounds to zero has no sign.

    Example:
        >>> points(0.9123), points(-0.004, sign=True), points(0.00001, sign=True)
        ('91.2', '−0.4', '0.0')
    """
    text = f"{100 * value:.{digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return (f"+{text}" if sign and value > 0 else text).replace("-", "−")


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Args:
        number: how many.
        noun: singular that takes a plain s.

    Returns:
        The phrase.

    Example:
        >>> count(1, "seed"), count(3801, "example")
        ('1 seed', '3,801 examples')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(names: Iterable[object]) -> str:
    """Names joined as in prose.

    Args:
        names: any number of them.

    Returns:
        The phrase, "none" when there are none.

    Example:
        >>> listing(["a", "b", "c"]), listing([])
        ('a, b and c', 'none')
    """
    words = [str(name) for name in names]
    if not words:
        return "none"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def verdict_sentence(
    variant: str,
    baseline: str,
    task: str,
    metric: str,
    *,
    comparison: Comparison,
    verdict: Verdict | None,
    confidence: float,
) -> str:
    """What a comparison with the baseline means.

    Args:
        variant: name of the variant.
        baseline: name of the baseline.
        task: name of the task.
        metric: name of the metric.
        comparison: the numbers.
        verdict: what they amount to.
        confidence: level of the interval, 0..1.

    Returns:
        One sentence.
    """
    what = f"{metric_label(metric)} {points(comparison.value, sign=True)} points"
    facts = [count(comparison.seeds, "seed")] + ([count(comparison.examples, "example")] if comparison.examples else [])
    if comparison.interval is None:
        return (
            f"{variant} against {baseline} on {task}: {what}, not tested: without predictions, one seed says nothing "
            "about noise."
        )
    low, high = points(comparison.interval.low, sign=True), points(comparison.interval.high, sign=True)
    evidence = f"{what}, {100 * confidence:g} % interval {low} to {high}; {', '.join(facts)}"
    if comparison.identical:
        return f"{variant} predicts the same as {baseline} on {task}, on every row ({', '.join(facts)})."
    if verdict == "no difference":
        return f"No difference between {variant} and {baseline} on {task} stands out of the noise ({evidence})."
    return f"{variant} is {verdict} than {baseline} on {task} ({evidence})."


def one_seed_note(seeds: Sequence[int | None]) -> str:
    """The warning of a table whose cells have one seed each.

    Args:
        seeds: the seeds that occur.

    Returns:
        One sentence.

    Example:
        >>> one_seed_note([0])
        'One seed (0): the intervals cover the evaluated examples, not training; another seed may reverse a verdict.'
    """
    named = [seed for seed in seeds if seed is not None]
    which = f" ({named[0]})" if len(named) == 1 else ""
    return (
        f"One seed{which}: the intervals cover the evaluated examples, not training; "
        "another seed may reverse a verdict."
    )
