"""The words of a text: which may be replaced, and how a replacement is written."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

# Like BERT's basic tokenizer: Chinese characters are words of their own, everything else is cut at spaces and marks.
_IDEOGRAPH = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
_RUN = re.compile(rf"(?=[{_IDEOGRAPH}])[^\W_]|(?:(?![{_IDEOGRAPH}])[^\W_])+")

_STOP_WORDS = """
a an the
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves this that these those who whom whose which what
am is are was were be been being have has had having do does did doing done
will would shall should can could may might must
ain aren couldn didn doesn don hadn hasn haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn
s t d m o y ll re ve
and but or nor if because as until while than so though although unless whether
of at by for with about against between into onto through during before after above below to from up down in out on off
over under upon within without toward towards among across along around behind beside beyond near per via
again further then once here there when where why how all any both each few more most other some such
no not only own same too very just now ever never also even still yet
"""

ENGLISH_STOP_WORDS: frozenset[str] = frozenset(_STOP_WORDS.split())
"""English function words, and what is left of contractions when they are cut at the apostrophe (don't: don, t)."""


@dataclass(frozen=True)
class Word:
    """A word in its text.

    Attributes:
        start: index of its first character.
        end: index after its last character.
        text: as it is written.
    """

    start: int
    end: int
    text: str


def find_words(text: str) -> list[Word]:
    """Cut a text into words as BERT's basic tokenizer does: runs of letters and digits; punctuation is no word.

    Args:
        text: any text.

    Returns:
        The words in their order.

    Example:
        >>> [word.text for word in find_words("Don't panic: it's 42!")]
        ['Don', 't', 'panic', 'it', 's', '42']
    """
    return [Word(*match.span(), match.group()) for match in _RUN.finditer(text)]


def replaceable_words(text: str, stop_words: Collection[str] = ENGLISH_STOP_WORDS) -> list[Word]:
    """Find the words that augmentation may replace: made of letters alone, and no stop words.

    Numbers, words with digits, and words that a combining mark follows or cuts (decomposed accents, many Indic words)
    stay as they are.

    Args:
        text: any text.
        stop_words: words to keep, in lower case.

    Returns:
        The words in their order.

    Example:
        >>> [word.text for word in replaceable_words("The movie was GREAT, 10 of 10, covid19 or not")]
        ['movie', 'GREAT']
    """
    return [
        word
        for word in find_words(text)
        if word.text.isalpha() and word.text.lower() not in stop_words and not _is_cut(text, word)
    ]


def _is_cut(text: str, word: Word) -> bool:
    """Whether a combining mark stands beside the word: it belongs to a letter of it."""
    beside = text[word.end : word.end + 1], text[word.start - 1 : word.start] if word.start else ""
    return any(character and unicodedata.category(character).startswith("M") for character in beside)


def match_case(candidate: str, original: str) -> str:
    """Write a candidate in capitals, or with a capital at its start, where the word that it replaces is so written.

    Args:
        candidate: the new word.
        original: the word that it replaces.

    Returns:
        The new word.

    Example:
        >>> match_case("film", "Movie"), match_case("film", "MOVIE"), match_case("Paris", "london")
        ('Film', 'FILM', 'Paris')
    """
    if len(original) > 1 and original.isupper():
        return candidate.upper()
    return candidate[:1].upper() + candidate[1:] if original[0].isupper() else candidate
