"""Numbers and lists as a person reads them, wherever they are shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from models.arms.arm import look
from search.stats.paired import MOST_PAIRS
from search.storage.urls import shown_url


def points(value: float | None, signed: bool = True) -> str:
    """Percentage points: whole from ten on, else tenths."""
    if value is None:
        return "-"
    text = f"{value:+.0f}" if abs(value) >= 9.95 else f"{value:+.1f}"
    text = text.replace("-0.0", "0.0").replace("+0.0", "0.0")
    return (text if signed else text.lstrip("+-")).replace("-", "−")


def span(low: float | None, high: float | None) -> str:
    """An interval of points; empty where there is none."""
    return "" if low is None or high is None else f"[{points(low)}, {points(high)}]".replace("+", "")


def percent(share: float | None) -> str:
    """A share from 0 to 1, in %."""
    return "-" if share is None else f"{100 * share:.1f}"


def accuracy(value: float | None) -> str:
    """An accuracy that is in % already."""
    return "-" if value is None else f"{value:.1f}"


def small(p: float) -> str:
    """A p value."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def many(pairs: int) -> str:
    """An estimate of pairs still needed."""
    return "> 1,000" if pairs > MOST_PAIRS else f"~{pairs}"


def figure_text(value: float | None) -> str:
    """A number: with tenths below a hundred, else whole."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def convs(band: str) -> str:
    """A band of depths, read out."""
    return f"{band.rstrip('+')} or more convs" if band.endswith("+") else f"{band} convs"


def minutes(seconds: float) -> str:
    """A time as minutes and seconds, or hours, minutes and seconds."""
    whole, rest = divmod(round(seconds), 60)
    hours, whole = divmod(whole, 60)
    return f"{hours}:{whole:02}:{rest:02}" if hours else f"{whole}:{rest:02}"


def plural(count: int, word: str) -> str:
    """A count of something whose plural has an s."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def listed(words: Sequence[str]) -> str:
    """Words joined by commas and "and"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def arms_listed(arms: Sequence[str]) -> str:
    """The labels of arms as a list in words."""
    return listed([look(arm).label for arm in arms])


def capitalized(text: str) -> str:
    """The text with a large first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def command_line(command: str, words: Sequence[str], storage: str | None) -> str:
    """A command as it is typed, but for the database's password."""
    address = ["--storage", shown_url(storage)] if storage else []
    return shlex.join(["python", "-m", f"search.{command}", *words, *address])
