"""Options that commands share, and how they are typed again."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from models.rules import Number, Rule, Whole


def parser_of(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The parser of a command; its epilog is shown as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m search.{command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_study_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds --study, --storage and --name; `name`: what the last one names."""
    parser.add_argument("--study", help="a name in studies/ or a .toml file (digits)")
    add_storage_option(parser)
    parser.add_argument("--name", type=study_name, help=f"name {name} (the study file's)")


def study_words(options: argparse.Namespace) -> list[str]:
    """--study and --name as typed."""
    given = {key: getattr(options, key) for key in ("study", "name")}
    return [f"--{key}={value}" for key, value in given.items() if value is not None]


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", metavar="URL", help="else $OPTUNA_STORAGE, else studies/search.db")


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=workers, default="auto", metavar="N", help="auto: one per core or place on a GPU"
    )
    add_device_option(parser)
    parser.add_argument("--per-gpu", type=whole(1, 64), default=1, metavar="N", help="workers on one GPU (1)")
    parser.add_argument("--quiet", action="store_true", help="print the summary only")


def worker_words(options: argparse.Namespace) -> list[str]:
    """The options of add_worker_options that differ from their defaults, as they would be typed."""
    words = []
    for name, default in (("workers", "auto"), ("device", "auto"), ("per_gpu", 1)):
        if (value := getattr(options, name)) != default:
            words.append(f"--{name.replace('_', '-')}={value}")
    return words + (["--quiet"] if options.quiet else [])


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def whole(low: int, high: int) -> Callable[[str], int]:
    """The parser of an option that takes a whole number, in digits."""

    def parse(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) < 12
        return int(_obeyed(text, int(text) if plain else None, Whole(low, high)))

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """The parser of an option that takes a number."""

    def parse(text: str) -> float:
        try:
            value: float | None = float(text)
        except ValueError:
            value = None
        return float(_obeyed(text, value, Number(low, high)))

    return parse


def _obeyed(text: str, value: float | None, rule: Rule) -> float:
    try:
        found: float = rule(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, got {text[:40]}") from None
    return found


def study_name(text: str) -> str:
    """The parser of an option that names a study."""
    if not (text.strip() and text.isprintable() and len(text) <= 200):
        raise argparse.ArgumentTypeError(f"must be 1 to 200 printable characters, got {text[:40]!r}")
    return text


seed = whole(0, 2**31 - 1)


def workers(text: str) -> str:
    """The parser of --workers: auto, or a number."""
    return text if text == "auto" else str(whole(1, 1024)(text))
