"""Which faults a cluster without Patroni can be put through."""

from __future__ import annotations

import pytest

from pgbaton.proof.faults import FAULTS, hand, lacking, named, of_suite
from pgbaton.proof.faults.base import Suite
from pgbaton.topology import load, presets

MANUAL = load.loads(presets.text("manual"))
STANDARD = load.loads(presets.text("standard"))


def test_what_can_be_proven_by_hand_are_faults_that_exist() -> None:
    assert {fault.name for fault in FAULTS} >= hand.BY_HAND


@pytest.mark.parametrize("name", ["switchover", "haproxy-killed", "balancer-power-off", "pgbouncer-killed"])
def test_what_needs_no_patroni_is_run(name: str) -> None:
    (fault,) = named([name])
    assert lacking(fault, MANUAL) is None


@pytest.mark.parametrize("name", ["postmaster-killed", "etcd-member-killed", "patroni-killed", "primary-isolated"])
def test_what_needs_patroni_or_etcd_says_so(name: str) -> None:
    (fault,) = named([name])
    assert lacking(fault, MANUAL) == "Patroni and etcd, which manual does not have"


@pytest.mark.parametrize("fault", hand.FAULTS, ids=lambda fault: fault.name)
def test_what_a_person_does_is_not_asked_of_patroni(fault: hand.Fault) -> None:
    assert lacking(fault, MANUAL) is None
    assert "manual" in str(lacking(fault, STANDARD))
    assert fault not in of_suite(Suite.FULL)
