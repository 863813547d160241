"""SQuAD: questions whose answers are spans of a paragraph (Rajpurkar et al. 2016, arXiv:1606.05250; 2018)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SquadTask:
    """One version of SQuAD as the Hugging Face hub spells it.

    Attributes:
        hub: name on the hub.
        unanswerable: whether some questions have no answer in their context; decides the rules of EM and F1.
    """

    hub: str
    unanswerable: bool


SQUAD_TASKS: dict[str, SquadTask] = {
    "squad": SquadTask("rajpurkar/squad", unanswerable=False),
    "squad_v2": SquadTask("rajpurkar/squad_v2", unanswerable=True),
}
QUESTION, CONTEXT, ANSWERS = "question", "context", "answers"
"""Columns of SQuAD on the hub."""
