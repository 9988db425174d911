from __future__ import annotations

import pytest

from pgbaton.components.catalogue import COMPONENTS
from pgbaton.errors import UsageError
from pgbaton.lab import definition, recipe
from pgbaton.topology.model import Topology


@pytest.mark.parametrize("system", recipe.SYSTEMS.values(), ids=str)
def test_the_image_has_every_package_that_a_component_asks_for(system: recipe.System) -> None:
    roles = ["balancer", "pooler", "database", "dcs"]
    hosts = [{"name": f"n{n}", "address": f"10.0.0.{n}", "roles": roles} for n in (1, 2, 3)]
    network = {"subnet": "10.0.0.0/24", "vip": "10.0.0.9"}
    data = {"schema": 1, "cluster": {"name": "all"}, "hosts": hosts, "network": network}
    topology = definition.on_system(Topology.model_validate(data), system)
    asked = {package for part in COMPONENTS for host in topology.hosts for package in part.packages(topology, host)}
    assert asked
    assert asked <= set(recipe.packages(system))


def test_a_bare_machine_has_no_package_of_the_cluster() -> None:
    services = {name.format(postgresql=17) for name in recipe.SERVICES}
    assert not services & set(recipe.BASE)


def test_the_fingerprint_follows_what_an_image_contains(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = [recipe.system(name) for name in recipe.SYSTEMS]
    before = [recipe.fingerprint(system) for system in systems]
    assert len(set(before)) == len(systems)
    monkeypatch.setattr(recipe, "TOOLS", (*recipe.TOOLS, "strace"))
    assert not set(before) & {recipe.fingerprint(system) for system in systems}


def test_an_unknown_system_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="debian-9") as caught:
        recipe.system("debian-9")
    assert caught.value.hint == "choose one of: debian-13, debian-12"


def test_each_postgresql_version_has_its_system() -> None:
    assert recipe.system_for(17).name == "debian-13"
    assert recipe.system_for(15).name == "debian-12"
