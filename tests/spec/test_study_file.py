from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.arms.arm import ARMS
from models.norms import NORMS
from search.errors import SpecError
from search.spec.domains import Range
from search.spec.study_file import find_study, load_spec
from tests.support.made_up import Bottleneck, Gated, installed

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
    assert find_study(path.stem) == find_study(str(path)) == path
    spec = load_spec(path)
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
    again = load_spec(write(tmp_path, '[data]\nname = "cifar10"\n[space]\npreset = "resnet56"\nkernel = 5\n'))
    assert (again.space.blocks, again.space.widths) == ((9,), ((16,), (32,), (64,)))
    assert (again.space.norm, again.space.init, again.space.zero_branch) == (("batch",), ("he",), (False,))
    assert (again.space.transition, again.space.kernel, again.space.head) == ("stride", 5, "average")
    assert again.space.block == ("plain", "residual", "preact"), "all arms, whatever the preset's own"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"none", "batch"',
            '"none", "unheard"',
            f"space.norm must be one of {', '.join(NORMS)}, got ['none', 'unheard']",
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
            "seed = 0",
            'design = "paired"',
            "search.design must be one of stratified, matched, free, got 'paired'",
        ),
        ("seed = 0", 'sampler = "gp"', 'search.sampler = "gp" needs search.design = "free"'),
        (
            "seed = 0",
            'design = "stratified"\npruner = "hyperband"',
            "search.pruner must be one of lead, none with search.design = \"stratified\", got 'hyperband'",
        ),
        (
            "seed = 0",
            'design = "matched"\npruner = "lead"',
            "search.pruner must be one of hyperband, halving, median, none with",
        ),
        ("seed = 0", 'design = "free"\nstrata = 3', 'search.strata needs search.design = "stratified"'),
        ("seed = 0", "strata = 0", "search.strata must be a whole number from 1 to 12, or a list"),
        ("seed = 0", "strata = [20, 10]", "search.strata must"),
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
    ("further", "message"),
    [
        (
            '[search]\nbaseline = "unheard"',
            f"search.baseline must be one of {', '.join(ARMS)}, got 'unheard'",
        ),
        (
            'block = ["plain", "preact"]\n[search]\nbaseline = "residual"',
            "search.baseline must be an arm of space.block (plain, preact), got 'residual'",
        ),
        ('preset = "resnet21"', "space.preset must be one of post, resnet20"),
        ("preset = 20", "space.preset must be one of post, resnet20"),
        ("presett = 20", "space.presett is not a key: did you mean preset? Known: preset, block, blocks"),
        ("depth = 3", "space.depth is not a key: Known: preset, block"),
        ("[confirm]\nmargin = 101", "confirm.margin must be a number from 0 to 100, got 101"),
        ("[confirm]\ndepths = [0]", "confirm.depths must be a whole number from 1 to 2000, got [0]"),
        ("[train]\nclip = 0", "train.clip must be a number from 1e-06 to 1e+06, got 0"),
    ],
)
def test_rules_between_keys_and_of_keys_that_may_be_left_out(
    tmp_path: Path, further: str, message: str
) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        load_spec(write(tmp_path, SMALLEST + further))


def test_the_baseline_may_be_any_arm_of_the_space(tmp_path: Path) -> None:
    assert load_spec(write(tmp_path, SMALLEST)).search.baseline == "plain"
    for arm in ("plain", "residual", "preact"):
        spec = load_spec(write(tmp_path, f'{SMALLEST}[search]\nbaseline = "{arm}"'))
        assert spec.search.baseline == arm
    without_plain = load_spec(write(tmp_path, SMALLEST + 'block = ["residual", "preact"]'))
    assert without_plain.search.baseline == "plain", "a search alone needs none"


def test_arms_that_are_added_may_be_listed_and_must_be_equally_deep_to_be_matched(tmp_path: Path) -> None:
    blocks = 'block = ["plain", "gated", "bottleneck"]\n'
    with installed(Bottleneck, Gated):
        gated = load_spec(write(tmp_path, SMALLEST + 'block = ["gated", "plain"]'))
        assert gated.space.block == ("gated", "plain")
        with pytest.raises(SpecError, match="at one depth, got plain 2, gated 2, bottleneck 3"):
            load_spec(write(tmp_path, SMALLEST + blocks))
        free = load_spec(write(tmp_path, f'{SMALLEST}{blocks}[search]\ndesign = "free"'))
        assert free.space.block == ("plain", "gated", "bottleneck")
    with pytest.raises(SpecError, match=rf"space\.block must be one of {', '.join(ARMS)}, got"):
        load_spec(write(tmp_path, SMALLEST + 'block = ["gated", "plain"]'))


def test_widths_may_fall_between_pooled_stages_alone(tmp_path: Path) -> None:
    text = SMALLEST.replace("[8]", "[[8, 16], [16, 32]]")
    assert load_spec(write(tmp_path, text + 'transition = "stride"')).space.widths == ((8, 16), (16, 32))
    falling = SMALLEST.replace("[8]", "[[8, 16], [12, 32]]")
    assert load_spec(write(tmp_path, falling + 'transition = "pool"')).space.widths == ((8, 16), (12, 32))
    with pytest.raises(SpecError, match='got 12 after 16; or take transition = "pool"'):
        load_spec(write(tmp_path, falling + 'transition = "stride"'))


def test_a_seed_that_is_given_takes_the_place_of_the_files(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST + "[search]\nseed = 5")
    assert [load_spec(path, seed=seed).search.seed for seed in (None, 0, 7)] == [5, 0, 7]


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
    confirm = edited(tmp_path, "seeds = 10", "depths = [8, 20]\nseeds = 5")
    assert load_spec(confirm).confirm.depths == (8, 20)
    assert load_spec(confirm).fingerprint() == base.fingerprint()
    assert base.fingerprint() == "62149fda5e84935e", "stored studies could no longer be continued"


@pytest.mark.parametrize(
    ("said", "design", "pruner"),
    [
        ("", "stratified", "lead"),
        ('pruner = "none"', "stratified", "none"),
        ('pruner = "halving"', "matched", "halving"),
        ('design = "matched"', "matched", "hyperband"),
        ('design = "free"', "free", "hyperband"),
    ],
)
def test_a_pruner_alone_brings_the_design_that_it_can_prune_in(
    tmp_path: Path, said: str, design: str, pruner: str
) -> None:
    search = load_spec(write(tmp_path, f"{SMALLEST}[search]\n{said}")).search
    assert (search.design, search.pruner) == (design, pruner)
