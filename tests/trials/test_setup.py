"""What is known of a trial before it is trained."""

from __future__ import annotations

from dataclasses import replace

from models.cost import measure_cost
from search.design.space import configuration_fingerprint
from search.trials.setup import Setup
from tests.support.runs import images, setup
from tests.support.training import CONFIG, small


def test_all_that_is_known_is_stored_before_training() -> None:
    config = replace(CONFIG, seed=7)
    found = setup(config, group=3, lead=False, replicate_of=0)
    architecture, cost = small(), measure_cost(small())
    assert cost.params != cost.macs
    assert found.attributes() == {
        "arm": "residual",
        "seed": 7,
        "depth": 6,
        "architecture": architecture.to_json(),
        "fingerprint": configuration_fingerprint(architecture, config),
        "device": "cpu",
        "params": cost.params,
        "macs": cost.macs,
        "group": 3,
        "lead": False,
        "replicate_of": 0,
    }


def test_two_attempts_are_alike_in_all_but_place_and_price() -> None:
    found = setup(group=3, lead=True)
    names = {"arm", "seed", "depth", "architecture", "fingerprint", "device"}
    assert found.identity() == {name: found.attributes()[name] for name in names}


def test_seeds_make_no_other_configuration_and_everything_else_does() -> None:
    found = setup()
    assert setup(replace(CONFIG, seed=8)).fingerprint == found.fingerprint
    assert setup(replace(CONFIG, lr=0.06)).fingerprint != found.fingerprint
    assert Setup(small(block="plain"), CONFIG, images()).fingerprint != found.fingerprint
