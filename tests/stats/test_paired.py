"""Each formula against brute force, a hand-worked case or SciPy; the verdict against simulated experiments.

Simulations have fixed seeds; the rates in the text of `search.statistics` come from longer ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]
from search.statistics__GONE import paired_differences

from search.stats.paired import (
    Comparison,
    Floats,
    Interval,
    Word,
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
from search.stats.runs import FailureTable, expected_best, failure_table, noise_floor

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


# --- Differences and what is refused


def test_differences_are_points_and_equal_scores_tie() -> None:
    assert paired_differences([0.9, 0.3], [0.8, 0.1 + 0.2]).tolist() == [10.0, 0.0]


@pytest.mark.parametrize(
    ("a", "b", "rule"),
    [
        ([], [], "at least one number"),
        ([0.9, 0.8], [0.9], "as many scores of one arm as of the other, not 2 and 1"),
        ([0.9, math.nan], [0.9, 0.8], "count a diverged run as chance accuracy"),
        ([[0.9]], [[0.8]], "flat sequence"),
        ([97.0], [96.0], "shares from 0 to 1, not percentages"),
    ],
)
def test_scores_that_are_no_pairs_are_refused_by_rule(a: list[float], b: list[float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        paired_differences(a, b)


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


def test_interval_of_one_pair_is_infinite_and_of_equal_ones_a_point() -> None:
    assert bootstrap_interval([3.0]) == (-math.inf, math.inf)
    assert bootstrap_interval([0.1, 0.1, 0.1]) == (0.1, 0.1)
    assert bca_interval([0.1, 0.1, 0.1], 0.95) == (0.1, 0.1)


def test_where_bca_has_no_finite_level_the_percentiles_stand() -> None:
    """At level 1 the normal quantiles are infinite; the percentiles are the extreme resamples."""
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


def test_more_pairs_is_where_students_t_clears_the_gap() -> None:
    """Mean 0, sd 2: half-width t(n-1) * 2 / sqrt(n) is below one point from 18 pairs on."""
    sample = np.array([2.0, -2.0] * 5) * math.sqrt(0.9)
    assert more_pairs(sample) == 18 - PAIRS
    assert more_pairs(sample * 40) == MANY + 1
    assert more_pairs(sample + 1) is None
    wide = compare_family({8: sample * 40})[8]
    assert str(wide) == "undecided (more than 1000 more seeds needed)"


def test_more_pairs_waits_until_holm_can_pass() -> None:
    """Five depths need 2 / 2^n * 5 < 0.05, so eight pairs, however large the gap; equal arms need six."""
    assert more_pairs([30.0, 31.0, 30.0], family=5) == 5
    assert more_pairs([30.0, 31.0, 30.0], family=1) == 3
    assert more_pairs([0.0, 0.0, 0.0], family=5) == 3


def test_more_pairs_is_a_fair_guess() -> None:
    """With as many more pairs as it says, about half of the undecided are decided."""
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
    """Within three standard errors of the long simulation."""
    count = 2000
    drawn = draw(np.random.default_rng(6), (count, PAIRS))
    intervals = [bootstrap_interval(sample, resamples=2000) for sample in drawn]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    assert covered == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / count))


def test_plain_bca_covers_too_little_at_ten_pairs() -> None:
    """Why the level is expanded."""
    drawn = normal(np.random.default_rng(6), (2000, PAIRS))
    assert np.mean([low <= 0 <= high for low, high in (bca_interval(d, 0.95, 2000) for d in drawn)]) < 0.91


@pytest.mark.parametrize("draw", [normal, both_collapse])
def test_equal_arms_are_rarely_told_apart(draw: Draw) -> None:
    """In at most 5 % of experiments does any of five depths say beats or loses."""
    families = simulate(draw, 800, seed=9)
    for margin in (0.0, 1.0):
        wrong = [bool({"beats", "loses"} & set(words(family, margin))) for family in families]
        assert np.mean(wrong) <= 0.05


def test_a_gap_of_two_points_is_found() -> None:
    """With sd 1: nearly always beyond margin 0, in 77 % beyond margin 1, where 14 pairs would give 91 %."""
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


# --- What scores are read against


def test_failures_are_below_twice_chance() -> None:
    """Fisher by hand: 3 of 3 against 0 of 3 is the rarest of 20 tables, on either side."""
    table = failure_table([0.1, 0.19, 0.11], [0.2, 0.9, 1.0], classes=10)
    assert table == FailureTable(failed_a=3, runs_a=3, failed_b=0, runs_b=3, p=table.p)
    assert table.p == pytest.approx(0.1)
    assert failure_table([0.9], [0.9, 0.8], classes=10).p == 1.0


def test_of_two_classes_a_run_fails_below_three_quarters() -> None:
    """Twice chance would be an accuracy of 1, so that nearly every run failed."""
    table = failure_table([0.5, 0.74], [0.76, 0.99], classes=2)
    assert (table.failed_a, table.failed_b) == (2, 0)
    with pytest.raises(ValueError, match="from two classes on, not for 1"):
        failure_table([1.0], [1.0], classes=1)


def test_expected_best_is_the_mean_over_all_sets() -> None:
    scores = [0.3, 0.9, 0.5, 0.5, 0.7]
    budgets = range(1, 6)
    by_sets = [np.mean([max(chosen) for chosen in itertools.combinations(scores, k)]) for k in budgets]
    curve = expected_best(scores, budgets)
    assert curve.budgets == tuple(budgets)
    assert curve.expected == pytest.approx(by_sets)
    band = zip(curve.low, curve.expected, curve.high, strict=True)
    assert all(low <= mean <= high for low, mean, high in band)
    assert max(curve.high) == pytest.approx(0.9)


def test_expected_best_of_many_runs_stays_finite() -> None:
    """C(2000, 1000) is beyond a float."""
    scores = np.linspace(0, 1, 2000)
    (best,) = expected_best(scores, [1000], resamples=10).expected
    assert best == pytest.approx(1000 / 1001 * 2001 / 1999 - 1 / 1999)


@pytest.mark.parametrize("budget", [0, 4])
def test_budgets_beyond_the_runs_are_refused(budget: int) -> None:
    with pytest.raises(ValueError, match="from 1 to the 3 runs there are"):
        expected_best([0.1, 0.2, 0.3], [budget])


def test_noise_is_pooled_by_degrees_of_freedom() -> None:
    """Squares 2 and 8 over 1 + 2 degrees of freedom; a single run and the level of a group add nothing."""
    noise = noise_floor([[1.0, 3.0], [102.0, 100.0, 104.0], [50.0]])
    assert noise.sd == pytest.approx(math.sqrt(10 / 3))
    assert noise.degrees_of_freedom == 3
    with pytest.raises(ValueError, match="under two seeds"):
        noise_floor([[1.0], [2.0]])
