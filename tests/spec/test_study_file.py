from __future__ import annotations

from pathlib import Path

import pytest

from search.errors import SpecError
from search.spec.domains import Range
from search.spec.study_file import find_study, load_spec
from search.training.kernels import differences

SMALLEST = '[data]\nname = "digits"\n[space]\nblocks = 1\nwidths = [8]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def edited(folder: Path, old: str, new: str) -> Path:
    """The digits study with one thing changed."""
    text = Path("studies/digits.toml").read_text()
    assert text.count(old) == 1
    return write(folder, text.replace(old, new))


@pytest.mark.parametrize("path", sorted(Path("studies").glob("*.toml")), ids=lambda path: path.stem)
def test_every_bundled_study_loads_and_is_named_after_its_file(path: Path) -> None:
    spec = load_spec(find_study(path.stem))
    assert spec.name == path.stem
    assert spec.space.block[:2] == ("plain", "residual")


def test_lists_are_choices_tables_are_ranges_values_are_fixed(tmp_path: Path) -> None:
    spec = load_spec(
        write(tmp_path, SMALLEST + 'norm = ["none", "batch"]\ninit = "he"\nlr_sgd = {low = 0.1, high = 1}\n')
    )
    assert spec.space.norm == ("none", "batch")
    assert spec.space.init == ("he",)
    assert spec.space.blocks == (1,)
    assert spec.space.widths == ((8,),)
    assert spec.space.lr_sgd == Range(low=0.1, high=1.0)


def test_a_preset_fills_in_what_is_left_out(tmp_path: Path) -> None:
    spec = load_spec(
        write(tmp_path, '[data]\nname = "mnist"\n[space]\npreset = "post"\ninit = ["default", "he"]\n')
    )
    assert (spec.space.kernel, spec.space.padding, spec.space.head) == (5, "valid", "flatten")
    assert spec.space.widths == ((16,), (32,))
    assert spec.space.blocks == (1,)
    assert spec.space.norm == ("none",)
    assert spec.space.init == ("default", "he")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"none", "batch"',
            '"none", "layer"',
            "space.norm must be one of none, batch, got ['none', 'layer']",
        ),
        ("high = 9", "high = 1000000000", "space.blocks must be a whole number from 1 to 128"),
        ("[16, 32], [16, 32]]", "[16, 40000]]", "space.widths must be a whole number from 1 to 4096"),
        ("low = 1e-3", "low = 3.0", "space.lr_sgd must have low below high"),
        ("weight_decay = {low = 1e-6", "weight_decay = {low = 0", "space.weight_decay must have low above 0"),
        ("epochs = 15", "epochs = 0", "train.epochs must be a whole number from 1 to 100000, got 0"),
        ("epochs = 15", "epochs = 15.5", "train.epochs must be a whole number"),
        (
            "epochs = 15",
            "epoch = 15",
            "train.epoch is not a key: did you mean epochs? Known: epochs, batch_size",
        ),
        ("[train]", "[training]", "[training] is not a table: did you mean train?"),
        ('name = "digits"', 'name = "digit"', "digits"),
        ("val_fraction = 0.25", "val_fraction = 1.5", "data.val_fraction must be"),
        (
            'design = "matched"',
            'design = "paired"',
            "search.design must be one of matched, free, got 'paired'",
        ),
        ('sampler = "tpe"', 'sampler = "gp"', 'search.sampler = "gp" needs search.design = "free"'),
        ("[false, true]", "[0, 1]", "space.zero_branch must be true or false"),
        ('["plain", "residual", "preact"]', '["plain", "plain"]', "none of them twice"),
        ('["plain", "residual", "preact"]', "[]", "must list 1 to 100 choices"),
        ("seed = 0", "seed = -1", "search.seed must be a whole number from 0"),
        (
            '"pool" ',
            '"stride" ',
            'space.widths[1] must not go below space.widths[0] with transition = "stride"',
        ),
        ("epochs = 15", "epochs = ", "is not valid TOML"),
        ("epochs = 15", "epochs = " + "1" * 5000, "is not valid TOML"),
        ("seeds = 10", "seeds = 0", "confirm.seeds must be a whole number from 1 to 1000"),
    ],
)
def test_errors_name_key_value_rule_and_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    text = str(caught.value)
    assert message in text
    assert str(path) in text
    assert len(text.splitlines()) <= 2


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000 + "]" * 5000,
        "#" * (1 << 20) + "\n#",
        "data = 3",
        "\x00",
        '[data]\nname = "digits"\n',
    ],
    ids=["deep", "large", "not a table", "binary", "incomplete"],
)
def test_hostile_and_broken_files_are_refused_in_a_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, text))
    assert len(str(caught.value)) < 500


def test_unknown_study_lists_the_known() -> None:
    with pytest.raises(
        SpecError,
        match=r"no study file studies/digit.toml: studies/ has cifar10, .*digits, mnist_post",
    ):
        find_study("digit")


def test_fingerprint_follows_what_decides_a_result_and_nothing_else(tmp_path: Path) -> None:
    base = load_spec(Path("studies/digits.toml"))
    assert load_spec(edited(tmp_path, "# 8x8 digits", "# 9x9 digits")).fingerprint() == base.fingerprint()
    assert load_spec(edited(tmp_path, "epochs = 15", "epochs = 16")).fingerprint() != base.fingerprint()
    assert load_spec(Path("studies/digits.toml"), seed=1).fingerprint() != base.fingerprint()
    confirm = edited(tmp_path, "[8, 14, 20, 32, 44]\nseeds = 10", "[8, 20]\nseeds = 5")
    assert load_spec(confirm).confirm.depths == (8, 20)
    assert load_spec(confirm).fingerprint() == base.fingerprint()
    assert base.fingerprint() == "2b0543d8ac73b925", "stored studies could no longer be continued"


def test_the_place_of_the_data_is_no_difference(tmp_path: Path) -> None:
    text = '[data]\nname = "npz"\npath = "{}"\n[space]\nblocks = 1\nwidths = [8]\n'
    specs = [load_spec(write(tmp_path, text.format(path))) for path in ("/here/a.npz", "/there/a.npz")]
    assert differences(specs[0].canonical(), specs[1].canonical()) == []


def test_differences_read_like_a_diff(tmp_path: Path) -> None:
    old = load_spec(Path("studies/digits.toml")).canonical()
    new = load_spec(edited(tmp_path, "high = 9", "high = 5")).canonical()
    assert differences(old, new) == ["space.blocks.high: 9 in the study, 5 now"]
