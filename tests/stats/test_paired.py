"""Each formula against brute force, a hand-worked case or SciPy; the verdict against simulated experiments.

Simulations have fixed seeds; the rates in the text of `search.stats.paired` come from longer ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from search.stats.paired import (
    ALPHA,
    MIN_PAIRS,
    MOST_PAIRS,
    Comparison,
    Floats,
    Interval,
    Word,
    as_sample,
    bca_interval,
    bootstrap_interval,
    compare_family,
    holm,
    more_pairs,
    sign_flip_p,
    signed_rank_p,
    superiority,
    verdict,
)

DEPTHS = (8, 14, 20, 32, 44)
PAIRS = 10
MIRROR: dict[Word, Word] = {"beats": "loses", "loses": "beats", "equal": "equal", "undecided": "undecided"}
Draw = Callable[[np.random.Generator, tuple[int, ...]], Floats]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.normal(size=shape)


def exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.exponential(size=shape) - 1


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.lognormal(0, 0.5, shape) - math.exp(0.125)


def one_collapses(rng: np.random.Generator, shape: tuple[int, ...], share: float = 0.3) -> Floats:
    """A is two points ahead, but falls to chance, 80 points below, in a share of the runs. Mean 0."""
    return np.where(rng.random(shape) < share, -80.0, 2.0) - 2 + 82 * share + rng.normal(size=shape)


def one_collapses_rarely(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return one_collapses(rng, shape, share=0.1)


def both_collapse(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Either arm falls to chance in 30 % of its runs, whatever the other does: equal arms, bimodal scores."""
    fallen_a, fallen_b = rng.random(shape) < 0.3, rng.random(shape) < 0.3
    return 80.0 * fallen_b - 80.0 * fallen_a + rng.normal(size=shape)


def samples(count: int = 30, seed: int = 0) -> Iterable[Floats]:
    """Small and large, coarse (so with zeros and ties) and smooth."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        sample = rng.normal(rng.normal(), rng.choice([0.3, 3.0]), size=rng.integers(1, 14))
        yield np.round(sample) if i % 3 == 0 else sample


def simulate(draw: Draw, experiments: int, seed: int, gap: float = 0.0) -> list[dict[int, Comparison]]:
    rng = np.random.default_rng(seed)
    drawn = gap + draw(rng, (experiments, len(DEPTHS), PAIRS))
    return [compare_family(dict(zip(DEPTHS, experiment, strict=True))) for experiment in drawn]


def words(family: Mapping[int, Comparison], margin: float) -> list[Word]:
    """Interval and p do not depend on the margin, so one simulation serves several."""
    return [verdict(each.interval, each.holm_p, each.pairs, margin) for each in family.values()]


# --- What is refused


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ([], "at least one number"),
        ([0.9, math.nan], "count a diverged run as chance accuracy"),
        ([0.9, math.inf], "holds finite numbers only"),
        ([[0.9]], "flat sequence"),
        (0.9, "flat sequence"),
    ],
)
def test_values_that_are_no_sample_are_refused_by_rule(values: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        as_sample(values)


@pytest.mark.parametrize(
    "function", [bootstrap_interval, sign_flip_p, signed_rank_p, superiority, more_pairs]
)
def test_no_statistic_of_nothing(function: Callable[[list[float]], object]) -> None:
    with pytest.raises(ValueError, match="at least one number"):
        function([])


def test_an_empty_depth_is_refused_and_an_empty_family_is_empty() -> None:
    with pytest.raises(ValueError, match="at least one number"):
        compare_family({8: [1.0, 2.0], 14: []})
    assert compare_family({}) == {}


# --- Intervals


@pytest.mark.parametrize("draw", [normal, exponential, one_collapses])
def test_bca_is_that_of_scipy(draw: Draw) -> None:
    """Both are Monte Carlo estimates: a hundredth of the spread is their own noise at 100,000 resamples."""
    sample = draw(np.random.default_rng(5), (12,))
    ours = bca_interval(sample, 0.95, resamples=100_000)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=100_000, batch=10_000, rng=1).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.02 * np.ptp(sample) / math.sqrt(12))


def test_the_interval_is_never_inside_students() -> None:
    for sample in samples():
        if len(sample) > 1 and np.ptp(sample) > 0:
            low, high = bootstrap_interval(sample, 0.9)
            student = stats.ttest_1samp(sample, 0).confidence_interval(0.9)
            assert low <= student.low + 1e-12
            assert high >= student.high - 1e-12


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_level_is_expanded_as_hesterberg_does(level: float) -> None:
    """Twice the normal's tail beyond t * sqrt(n / (n - 1)); where it is wider than Student's it is BCa's."""
    sample = np.array([0.0, 0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 9.0])
    reach = stats.t.ppf((1 + level) / 2, 7) * math.sqrt(8 / 7)
    assert bootstrap_interval(sample, level).high == pytest.approx(
        bca_interval(sample, 1 - 2 * stats.norm.sf(reach)).high, abs=1e-12
    )
    assert (
        bootstrap_interval(sample, level).high > stats.ttest_1samp(sample, 0).confidence_interval(level).high
    )
    assert bootstrap_interval(sample) == bootstrap_interval(sample, 0.95)


def test_interval_of_one_pair_is_infinite_and_of_equal_ones_a_point() -> None:
    assert bootstrap_interval([3.0]) == (-math.inf, math.inf)
    assert bootstrap_interval([0.1, 0.1, 0.1]) == (0.1, 0.1)
    assert bca_interval([0.1, 0.1, 0.1], 0.95) == (0.1, 0.1)


def test_where_bca_has_no_finite_level_the_percentiles_stand() -> None:
    """The normal quantiles at level 1 are infinite; the percentiles are the extreme resamples."""
    assert bca_interval([0.0, 1.0], 1.0) == (0.0, 1.0)


def test_intervals_shift_with_the_sample_and_mirror_with_the_arms() -> None:
    for sample in samples():
        low, high = bootstrap_interval(sample)
        assert bootstrap_interval(sample + 7) == pytest.approx((low + 7, high + 7), abs=1e-9)
        assert bootstrap_interval(-sample) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("level", [0, 1.5])
def test_levels_that_are_none_are_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be in"):
        bca_interval([1.0, 2.0], level)


# --- p values


def test_sign_flip_p_is_that_of_all_flips() -> None:
    for sample in samples():
        sums = [abs(np.dot(signs, sample)) for signs in itertools.product([-1, 1], repeat=len(sample))]
        extreme = sum(total >= abs(sample.sum()) - 1e-9 for total in sums)
        assert sign_flip_p(sample) == extreme / 2 ** len(sample) == sign_flip_p(-sample)


def test_sign_flips_that_tie_but_for_rounding_count() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point, yet each of these flips is as extreme as its mirror."""
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0
    assert sign_flip_p([0.1, 0.2, 0.3, 0.3 - 0.6]) == sign_flip_p([1, 2, 3, -3])


def test_many_pairs_are_sampled_and_never_give_zero() -> None:
    sample = np.random.default_rng(2).normal(0.4, 1, 40)
    expected = stats.permutation_test(
        (sample,), np.mean, permutation_type="samples", n_resamples=20_000, rng=3
    )
    assert sign_flip_p(sample) == pytest.approx(expected.pvalue, abs=0.01)
    assert sign_flip_p(np.ones(40)) == 1 / (2**16 + 1)
    assert sign_flip_p(sample, seed=1) == sign_flip_p(sample, seed=1)


def test_signed_rank_p_is_that_of_wilcoxon() -> None:
    """SciPy is exact without ties and zeros, and by permutation with them."""
    for sample in samples():
        method = "exact" if np.all(sample % 1) else stats.PermutationMethod(2**14, rng=0)
        if len(sample) > 1 and np.any(sample):
            expected = stats.wilcoxon(sample, zero_method="pratt", method=method).pvalue
            assert signed_rank_p(sample) == pytest.approx(expected, abs=1e-9)
    assert signed_rank_p([0.0, 0.0, 0.0]) == 1.0


def test_holm_by_hand() -> None:
    """0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; never falling, so 0.06 last."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="p values lie in"):
        holm([0.5, math.nan])


# --- Superiority


def test_superiority_counts_ties_as_half_and_keeps_width_at_the_ends() -> None:
    assert superiority([1.0, 0.0, -1.0, 2.0]).probability == 0.625
    always = superiority([1.0] * 10)
    assert always == pytest.approx((1.0, 0.7225, 1.0), abs=1e-4)
    assert superiority([-1.0] * 10) == pytest.approx((0.0, 0.0, 1 - 0.7225), abs=1e-4)


def test_superiority_is_wilsons_interval_and_mirrors() -> None:
    for sample in samples():
        expected = stats.binomtest(int(np.sum(sample > 0)), len(sample)).proportion_ci(method="wilson")
        got = superiority(sample)
        if np.all(sample):
            assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
        assert superiority(-sample) == pytest.approx((1 - got.probability, 1 - got.high, 1 - got.low))


# --- Verdicts


@pytest.mark.parametrize(
    ("low", "high", "p", "word"),
    [
        (1.1, 3.0, 0.04, "beats"),
        (1.1, 3.0, 0.05, "undecided"),
        (1.0, 3.0, 0.01, "undecided"),
        (-3.0, -1.1, 0.04, "loses"),
        (-1.0, 1.0, 1.0, "equal"),
        (0.2, 0.8, 0.01, "equal"),
        (-1.1, 1.0, 1.0, "undecided"),
    ],
)
def test_verdict_words(low: float, high: float, p: float, word: Word) -> None:
    assert verdict(Interval(low, high), p, PAIRS) == word
    assert verdict(Interval(low, high), p, 5) == "undecided"


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin is a number of points from 0 up, not -1"):
        verdict(Interval(0, 1), 0.01, PAIRS, margin=-1)


def test_five_pairs_never_beat_and_one_pair_says_nothing() -> None:
    """The smallest two-sided p of five pairs is 2 / 2^5."""
    five = compare_family({8: [30.0, 31.0, 32.0, 31.0, 30.0]})[8]
    assert (five.word, five.p) == ("undecided", 0.0625)
    assert str(five) == "undecided (about 1 more seed needed)"
    one = compare_family({8: [30.0]})[8]
    assert (one.word, one.more_pairs, one.p, str(one)) == ("undecided", None, 1.0, "undecided")
    assert compare_family({8: [0.0, 0.0]})[8].word == "undecided"


def test_swapping_the_arms_mirrors_everything() -> None:
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(40):
        family = {depth: rng.normal(rng.choice([-3, 0, 3]), 0.8, PAIRS) for depth in DEPTHS}
        swapped = compare_family({depth: -sample for depth, sample in family.items()})
        for depth, ours in compare_family(family).items():
            theirs = swapped[depth]
            seen.add(ours.word)
            assert theirs.word == MIRROR[ours.word]
            assert theirs.interval == pytest.approx((-ours.interval.high, -ours.interval.low), abs=1e-9)
            assert (theirs.wins, theirs.ties, theirs.losses) == (ours.losses, ours.ties, ours.wins)
            assert (theirs.mean, theirs.median) == pytest.approx((-ours.mean, -ours.median))
            assert theirs.more_pairs == ours.more_pairs
            same = ("p", "holm_p", "signed_rank_p")
            assert [getattr(theirs, name) for name in same] == [getattr(ours, name) for name in same]
    assert seen == set(MIRROR)


def test_wins_ties_and_losses_are_all_pairs() -> None:
    for comparison in compare_family(dict(enumerate(samples()))).values():
        assert comparison.wins + comparison.ties + comparison.losses == comparison.pairs


def test_holm_reaches_over_the_family() -> None:
    clear, vague = [5.0, 6, 5, 6, 5, 6, 5, 7], [5.0, -6, 5, -6, 5, -6, 5, -7]
    assert compare_family({8: clear})[8].holm_p == 2 / 2**8
    family = compare_family({8: clear, 14: vague, 20: vague})
    assert family[8].holm_p == 6 / 2**8
    assert family[8].word == "beats"


@pytest.mark.parametrize("margin", [0.0, 2.5])
def test_a_comparison_holds_what_its_functions_say(margin: float) -> None:
    """Each number under its own name, the margin and the number of depths passed on."""
    family = {
        8: np.array([4.0, -2.5, 9.5, 0.0, 2.0, -1.0, 3.0]),
        14: np.array([0.5, -0.25, 1.0, 2.0, 0.25, -3.0, 4.0]),
    }
    adjusted = holm([sign_flip_p(sample) for sample in family.values()])
    for (depth, sample), holm_p in zip(family.items(), adjusted, strict=True):
        found = compare_family(family, margin)[depth]
        interval = bootstrap_interval(sample, 0.95)
        assert found == Comparison(
            word=verdict(interval, holm_p, len(sample), margin),
            more_pairs=more_pairs(sample, margin, family=2),
            pairs=len(sample),
            mean=sample.mean(),
            median=float(np.median(sample)),
            interval=interval,
            p=sign_flip_p(sample),
            holm_p=holm_p,
            signed_rank_p=signed_rank_p(sample),
            superiority=superiority(sample),
            wins=int((sample > 0).sum()),
            ties=int((sample == 0).sum()),
            losses=int((sample < 0).sum()),
        )
        assert found.more_pairs != more_pairs(sample, 1.0, family=2)
        assert margin > 1 or found.more_pairs != more_pairs(sample, margin, family=1)
        assert found.p != found.signed_rank_p
        assert found.mean != found.median
    assert adjusted != [sign_flip_p(sample) for sample in family.values()]


@pytest.mark.parametrize(("margin", "word"), [(0.0, "beats"), (1.5, "beats"), (2.5, "equal"), (3.0, "equal")])
def test_the_margin_given_decides_the_word(margin: float, word: Word) -> None:
    [comparison] = compare_family({8: [2.0, 2.1, 1.9] * 3}, margin).values()
    assert comparison.word == word
    [mirrored] = compare_family({8: [-2.0, -2.1, -1.9] * 3}, margin).values()
    assert mirrored.word == MIRROR[word]


def test_differences_below_rounding_are_ties() -> None:
    [comparison] = compare_family({8: [1e-10, -1e-10, 0.0, 1e-8, -1e-8]}).values()
    assert (comparison.wins, comparison.ties, comparison.losses) == (1, 3, 1)
    assert superiority([1e-10, -1e-10, 1e-8]).probability == pytest.approx(2 / 3)


def test_more_pairs_is_where_students_t_clears_the_gap() -> None:
    """Mean 0, sd 2: half-width t(n-1) * 2 / sqrt(n) is below one point from 18 pairs on."""
    sample = np.array([2.0, -2.0] * 5) * math.sqrt(0.9)
    assert more_pairs(sample) == 18 - PAIRS
    assert more_pairs(sample * 40) == MOST_PAIRS + 1
    assert more_pairs(sample + 1) is None
    wide = compare_family({8: sample * 40})[8]
    assert str(wide) == "undecided (more than 1000 more seeds needed)"


def pairs_by_brute_force(sample: Floats, margin: float, family: int) -> int:
    """The first number of pairs at which a sample of this mean and spread would have a word."""
    mean, spread = abs(sample.mean()), sample.std(ddof=1)
    for n in itertools.count(max(len(sample) + 1, MIN_PAIRS)):
        error = spread / math.sqrt(n)
        clear = stats.t.ppf(1 - ALPHA / 2, n - 1) * error < abs(mean - margin)
        significant = stats.t.ppf(1 - ALPHA / 2 / family, n - 1) * error < mean
        possible = family * 2 * 0.5**n < ALPHA
        if clear and (mean < margin or (significant and possible)):
            return n - len(sample)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("family", [1, 5])
@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("mean", [0.3, -0.8, 2.0, -3.0, 4.0])
def test_more_pairs_is_the_first_number_with_a_word(mean: float, margin: float, family: int) -> None:
    """Samples have spread, and lie on either side of the margin; p is corrected for the family."""
    spread = np.random.default_rng(3).normal(size=8)
    sample = mean + 2 * (spread - spread.mean())
    assert more_pairs(sample, margin, family) == pairs_by_brute_force(sample, margin, family)


def test_more_pairs_grows_with_the_family_where_p_decides() -> None:
    """The interval of one depth is as strict as p at margin 0, and p alone is corrected."""
    sample = np.array([2.0, -2.0] * 4) + 0.8
    needed = [more_pairs(sample, margin=0.0, family=family) or 0 for family in (1, 2, 5, 20)]
    assert needed == sorted(needed)
    assert len(set(needed)) == 4
    within = [more_pairs(sample, margin=2.0, family=family) for family in (1, 20)]
    assert within[0] == within[1], "equal needs no p"


def test_more_pairs_waits_until_holm_can_pass() -> None:
    """Five depths need 2 / 2^n * 5 < 0.05, so eight pairs, however large the gap; equal arms need six."""
    assert more_pairs([30.0, 31.0, 30.0], family=5) == 5
    assert more_pairs([30.0, 31.0, 30.0], family=1) == 3
    assert more_pairs([0.0, 0.0, 0.0], family=5) == 3


def test_more_pairs_is_a_fair_guess() -> None:
    """About half of the undecided are decided with as many more pairs as it says."""
    rng = np.random.default_rng(8)
    decided = []
    for _ in range(100):
        sample = rng.normal(2.5, 3, PAIRS)
        more = more_pairs(sample)
        if compare_family({8: sample})[8].word == "undecided" and more is not None and more <= 60:
            same_law = np.concatenate([sample, rng.normal(sample.mean(), sample.std(ddof=1), more)])
            decided.append(compare_family({8: same_law})[8].word != "undecided")
    assert len(decided) > 40
    assert 0.3 < np.mean(decided) < 0.75


# --- Calibration


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (normal, 0.958),
        (exponential, 0.932),
        (lognormal, 0.935),
        (one_collapses, 0.965),
        (both_collapse, 0.954),
        (one_collapses_rarely, 0.653),  # no interval can: 35 % of such experiments never see a collapse
    ],
)
def test_coverage_at_ten_pairs(draw: Draw, expected: float) -> None:
    """The shares are within three standard errors of the long simulation."""
    count = 2000
    drawn = draw(np.random.default_rng(6), (count, PAIRS))
    intervals = [bootstrap_interval(sample, resamples=2000) for sample in drawn]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert covered == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / count))


def test_plain_bca_covers_too_little_at_ten_pairs() -> None:
    """This is why the level is expanded."""
    drawn = normal(np.random.default_rng(6), (2000, PAIRS))
    assert np.mean([low <= 0 <= high for low, high in (bca_interval(d, 0.95, 2000) for d in drawn)]) < 0.91


@pytest.mark.slow
@pytest.mark.parametrize("draw", [normal, both_collapse])
def test_equal_arms_are_rarely_told_apart(draw: Draw) -> None:
    """Any of five depths says beats or loses in at most 5 % of experiments."""
    families = simulate(draw, 800, seed=9)
    for margin in (0.0, 1.0):
        wrong = [bool({"beats", "loses"} & set(words(family, margin))) for family in families]
        assert np.mean(wrong) <= 0.05


def test_a_gap_of_two_points_is_found() -> None:
    """The sd is 1: nearly always beyond margin 0, in 77 % beyond margin 1, where 14 pairs would give 91 %."""
    families = simulate(normal, 300, seed=10, gap=2.0)
    power = {
        margin: np.mean([word == "beats" for family in families for word in words(family, margin)])
        for margin in (0.0, 1.0)
    }
    assert power[0.0] >= 0.99
    assert power[1.0] == pytest.approx(0.766, abs=0.04)


def test_a_rare_collapse_goes_unseen() -> None:
    """The known limit: 0.9^10 = 35 % of experiments show no collapse, and then A beats B at an equal mean."""
    families = simulate(one_collapses_rarely, 150, seed=12)
    claims = [word for family in families for word in words(family, 1.0)]
    assert claims.count("beats") / len(claims) == pytest.approx(0.9**PAIRS, abs=0.05)
    assert "loses" not in claims
