"""Options that commands share: what they take, and how they are typed again."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from search import confirm, run
from search.cli.options import (
    number,
    parser_of,
    seed,
    study_name,
    study_words,
    whole,
    worker_words,
    workers,
)


@pytest.mark.parametrize("text", ["3", "12", "007"])
def test_whole_numbers_in_digits_are_taken(text: str) -> None:
    assert whole(3, 12)(text) == int(text)


@pytest.mark.parametrize("text", ["2", "13", "-3", "+3", "3.0", "3e0", "", " 3", "٣", "1_0", "9" * 5000])
def test_what_is_no_whole_number_in_range_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        whole(3, 12)(text)
    assert str(raised.value) == f"must be a whole number from 3 to 12, got {text[:40]}"


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.5", 0.5), ("5e-1", 0.5), ("100", 100.0)])
def test_numbers_are_taken(text: str, value: float) -> None:
    assert number(0, 100)(text) == value


@pytest.mark.parametrize("text", ["-0.1", "100.1", "nan", "inf", "", "one"])
def test_what_is_no_number_in_range_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        number(0, 100)(text)
    assert str(raised.value) == f"must be a number from 0 to 100, got {text}"


def test_workers_are_a_number_or_auto() -> None:
    assert [workers(text) for text in ("auto", "1", "1024", "07")] == ["auto", "1", "1024", "7"]
    for text in ("0", "1025", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number from 1 to 1024"):
            workers(text)


def test_seeds_are_those_that_a_study_file_takes() -> None:
    assert (seed("0"), seed("2147483647")) == (0, 2147483647)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 2147483647"):
        seed("2147483648")


@pytest.mark.parametrize("name", ["a", "[red]a[/b] :smile:", "ü" * 200, " a"])
def test_names_are_whatever_can_be_printed(name: str) -> None:
    assert study_name(name) == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "a" * 201])
def test_what_is_no_name_is_told(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be 1 to 200 printable characters, got "):
        study_name(name)


Parse = Callable[[list[str]], argparse.Namespace]


@pytest.mark.parametrize("parse", [run.parse, confirm.parse])
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--workers=2"],
        ["--device=cpu"],
        ["--per-gpu=3"],
        ["--quiet"],
        ["--workers=2", "--device=cuda", "--per-gpu=4", "--quiet"],
    ],
)
def test_what_was_asked_of_workers_is_said_again(parse: Parse, words: list[str]) -> None:
    assert worker_words(parse(words)) == words


@pytest.mark.parametrize("parse", [run.parse, confirm.parse])
@pytest.mark.parametrize("words", [[], ["--study=my.toml"], ["--name=a b"], ["--study=x", "--name=y"]])
def test_which_study_was_asked_for_is_said_again(parse: Parse, words: list[str]) -> None:
    assert study_words(parse(words)) == words


def test_help_names_the_command_and_keeps_its_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser_of("fetch", "Does it.", "examples:\n  one\n  two").parse_args(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m search.fetch")
    assert "examples:\n  one\n  two" in shown
