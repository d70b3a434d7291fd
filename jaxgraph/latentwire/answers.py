"""Judging answers: what of a generation counts, exact match, F1 (spec/latentwire.md, 7.2)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

STRIPPED = " \t\r\n.,;:!?\"'`“”‘’-–—"
ARTICLES = re.compile(r"\b(a|an|the)\b")
LABEL = re.compile(r"^\s*(assistant|answer)\s*:\s*", re.IGNORECASE)
WRAPPER_LABEL = re.compile(r"^\s*assistant\s*:\s*", re.IGNORECASE)
NUMBER = r"-?\d+(?:\.\d+)?"


def clean(text: str, *, label: re.Pattern[str] = LABEL) -> str:
    """First line of a generation, up to the first special token, without label and marks around.

    The original's wrapper leaves an "Answer:" in front; `WRAPPER_LABEL` does so.
    """
    text = label.sub("", text.split("<|")[0].strip())
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip(STRIPPED) if lines else ""


def normalise(text: str) -> str:
    """Lower case without punctuation and articles, single spaces (SQuAD's rule)."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", text).split())


def exact_match(guess: str, truth: str) -> float:
    return float(normalise(guess) == normalise(truth))


def f1(guess: str, truth: str) -> float:
    """Harmonic mean of the shares of common words; 1 where both are empty."""
    ours, theirs = normalise(guess).split(), normalise(truth).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall + 1e-8)


def best(score, guess: str, truths: Sequence[str]) -> float:
    """Of several right answers the one that fits best."""
    return max(score(guess, truth) for truth in truths)


def find_number(text: str) -> str:
    """The number behind "####", else the last one, else the text (GSM8K)."""
    marked = re.search(rf"####\s*({NUMBER})", text)
    if marked:
        return marked[1]
    numbers = re.findall(NUMBER, text)
    return numbers[-1] if numbers else text.strip()
