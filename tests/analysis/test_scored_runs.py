from __future__ import annotations

from optuna.trial import TrialState

from search.analysis.scored_runs import own_runs, scored_runs, train_score
from search.analysis.scored_runs import test_score as score_of
from tests.support.made_trials import records
from tests.support.plans import RATES, choice, ended, ended_runs, plan

PLAN = plan([choice(arm, depth, lr) for depth in (9, 21) for arm, lr in RATES.items()], seeds=(2,))
SHARED = plan([choice("plain", 9, 0.1), choice("residual", 9, 0.1), choice("preact", 9, 0.3)], seeds=(2,))


def test_runs_with_a_test_accuracy_are_scored_by_the_run_of_their_number() -> None:
    trials = ended_runs(PLAN, lambda run: 0.5)
    trials[0].state = TrialState.PRUNED
    trials[1].state = TrialState.RUNNING
    del trials[2].user_attrs["test_accuracy"]
    runs = list(PLAN.runs())
    beyond = ended(len(runs), runs[0], 0.9)
    scored = scored_runs(PLAN, records([*trials, beyond]))
    assert [(run, trial.number) for run, trial in scored] == [(run, i) for i, run in enumerate(runs)][3:]


def test_scores_are_test_and_training_accuracies() -> None:
    [run, *_] = PLAN.runs()
    given = {"val_accuracy": 0.7, "train_accuracy": 0.8}
    [trial] = records([ended(0, run, 0.6, **given)])
    assert (score_of(trial), train_score(trial)) == (0.6, 0.8)
    [diverged] = records([ended(0, run, 0.6, outcome="diverged", **given | {"val_accuracy": 0.1})])
    assert train_score(diverged) == 0.1, "at chance, whatever it had learned before"


def test_runs_under_an_arms_own_recipe_and_under_anothers() -> None:
    scored = scored_runs(PLAN, records(ended_runs(PLAN, lambda run: 0.5)))
    for of in (None, "residual", "plain"):
        runs = own_runs(scored, "residual", 21, of)
        assert list(runs) == [0, 1], "by replicate"
        for replicate, trial in runs.items():
            [run] = [run for run, other in scored if other.number == trial.number]
            assert (run.arm, run.depth, run.replicate) == ("residual", 21, replicate)
            assert run.best_of == (of or "residual",)
    assert own_runs(scored, "residual", 21, "preact") == {}, "a rival is not trained under another rival's"


def test_a_recipe_that_is_the_best_of_two_arms_is_each_ones_own() -> None:
    scored = scored_runs(SHARED, records(ended_runs(SHARED, lambda run: 0.5)))
    own = own_runs(scored, "residual", 9)
    assert {r: trial.number for r, trial in own.items()} == {
        r: trial.number for r, trial in own_runs(scored, "residual", 9, "plain").items()
    }
    assert len(own) == 2
