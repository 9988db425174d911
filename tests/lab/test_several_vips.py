"""Two VIPs, each on a balancer of its own: what clients of either, and of both, notice when a balancer dies."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from labs import Lab, down, up
from poolers import in_network, target_of

from pgbaton.cli.demo import AGENTS
from pgbaton.components import keepalived
from pgbaton.hosts import process
from pgbaton.operate.waiting import until
from pgbaton.proof import final
from pgbaton.proof.watch import VipWatch
from pgbaton.topology import budget, presets
from pgbaton.topology.load import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from pgbaton.proof.checkers.base import Holding

pytestmark = pytest.mark.lab

NAME = "test-vips"
FIRST, SECOND = "10.77.0.100", "10.77.0.101"
VIP = f'vip = "{FIRST}"'
MORE = f'more_vips = ["{SECOND}"]\n'
#: Short, so that the tests are; long enough to be told from the move itself.
RETURN_SECONDS = 8.0
#: What a machine with two processors, on which the whole cluster runs, may add to what is predicted.
BUSY_SECONDS = 1.0
#: A client that is not concerned waits for a busy machine, and for nothing else.
UNCONCERNED_SECONDS = 1.0
#: An address that is gone answers nothing: a client waits as long as its TCP does, and then takes another.
SILENT_SECONDS = 4.0
CLIENTS = Path(__file__).with_name("way_clients.py")


def several() -> str:
    """Return the classic picture with a second VIP, and with agents that are as quick as the demonstration's."""
    text = presets.text("classic", cluster=NAME).replace(VIP, f"{MORE}{VIP}") + AGENTS
    return text.replace("[timings]\n", f"[timings]\nvip_return = {RETURN_SECONDS:g}\n", 1)


@pytest.fixture(scope="module")
def vip_lab(lab_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert lab_home
    file = tmp_path_factory.mktemp("vips") / "vips.toml"
    file.write_text(several())
    try:
        yield up(NAME, str(file))
    finally:
        down(NAME)


@dataclass
class Seen:
    """When which way's writes were acknowledged, and who held which VIP when."""

    began: float
    writes: dict[str, list[tuple[int, float]]]
    holdings: tuple[Holding, ...] = ()

    def longest_gap(self, way: str) -> float:
        """Return the longest time in which no write of a way was acknowledged, in seconds."""
        times = [at for _, at in self.writes[way]]
        return max(later - earlier for earlier, later in pairwise(times))

    def holders(self, vip: str) -> list[str]:
        """Return who held a VIP, one after another."""
        return [each.host for each in self.holdings if each.vip == vip]


@asynccontextmanager
async def clients(lab: Lab, log: Path) -> AsyncIterator[Seen]:
    """Let clients write by the first VIP, by the second and by both, and watch both VIPs meanwhile."""
    target = target_of(lab)
    usual = target.conninfo()
    ways = {"first": FIRST, "second": SECOND, "any": f"{SECOND},{FIRST}"}
    primary = await target.primary()
    await final.sql(target, primary, "DROP TABLE IF EXISTS kept; CREATE TABLE kept (way text, number int)")
    await final.sql(target, primary, "GRANT ALL ON kept TO app")
    asked = json.dumps({way: {**usual, "host": host} for way, host in ways.items()})
    child = await process.start(*in_network(lab, sys.executable, str(CLIENTS)), input=f"{asked}\n", log=log)
    seen, watch = Seen(time.monotonic(), {way: [] for way in ways}), VipWatch(target)

    async def written() -> str | None:
        said = await asyncio.to_thread(log.read_text)
        missing = [way for way in ways if f"{way} " not in said]
        return f"no write by {missing}: {said[-400:]}" if missing else None

    try:
        watch.start()
        await until("every client has written", written, seconds=30)
        yield seen
    finally:
        await asyncio.sleep(1)
        seen.holdings = await watch.stop()
        await child.end(timeout=20)
    for line in (await asyncio.to_thread(log.read_text)).splitlines():
        way, number, at = line.split()
        seen.writes[way].append((int(number), float(at)))
    await nothing_is_lost(lab, seen)


async def nothing_is_lost(lab: Lab, seen: Seen) -> None:
    """Every write that was acknowledged is on the primary."""
    target = target_of(lab)
    there = await final.sql(target, await target.primary(), "SELECT way || ' ' || number FROM kept")
    acknowledged = {f"{way} {number}" for way, writes in seen.writes.items() for number, _ in writes}
    assert acknowledged
    assert acknowledged <= set(there.split("\n"))


async def home(lab: Lab) -> dict[str, Any]:
    """Wait until nothing is wrong with the cluster, which has each VIP on its own balancer then; return its status."""
    await target_of(lab).until_whole(seconds=120)
    data: dict[str, Any] = json.loads((await lab.pgbaton("status", "-o", "json")).stdout)
    return data


async def moved(lab: Lab, vip: str, to: str) -> None:
    """Wait until a VIP is on a balancer."""

    async def look() -> str | None:
        shown = (await lab.hosts()[to].run("ip", "-4", "-o", "address", "show")).stdout
        return None if f" {vip}/" in shown else f"{to} has not {vip}"

    await until(f"{vip} is on {to}", look, seconds=40, interval_seconds=0.1)


def limit(lab: Lab, fault: str) -> float:
    """Return how long clients of a VIP may wait when its holder has a fault, in seconds."""
    (found,) = (each for each in budget.budget(lab.topology) if each.fault == fault)
    return found.write_seconds.maximum + BUSY_SECONDS


@pytest.mark.timeout(600)
async def test_each_vip_is_on_its_own_balancer_and_dsn_names_both(vip_lab: Lab) -> None:
    seen = await home(vip_lab)
    assert seen["vips"] == [
        {"address": FIRST, "home": "lb1", "holders": ["lb1"]},
        {"address": SECOND, "home": "lb2", "holders": ["lb2"]},
    ]
    uri = (await vip_lab.pgbaton("dsn", "--with-password")).stdout.strip()
    assert f"@{FIRST}:5000,{SECOND}:5000/" in uri
    script = 'IFS= read -r URI; for n in 1 2 3 4 5 6 7 8; do psql -XAtq -d "$URI" -c "SELECT pg_is_in_recovery()"; done'
    said = await vip_lab.hosts()["app"].run("sh", "-c", script, input=f"{uri}\n", check=False)
    assert said.stdout.split() == ["f"] * 8, said.stderr


def went_and_came_back(seen: Seen, allowed: float) -> None:
    """Check that the second VIP was on the other balancer meanwhile, and what that cost the clients of each."""
    assert seen.holders(SECOND) == ["lb2", "lb1", "lb2"]
    assert seen.holders(FIRST) == ["lb1"]
    assert seen.longest_gap("second") <= allowed
    assert seen.longest_gap("any") <= allowed
    assert seen.longest_gap("first") <= UNCONCERNED_SECONDS


@pytest.mark.timeout(600)
async def test_a_killed_haproxy_moves_its_vip_beside_the_other_and_it_goes_home(vip_lab: Lab, tmp_path: Path) -> None:
    await home(vip_lab)
    async with clients(vip_lab, tmp_path / "writes") as seen:
        await vip_lab.hosts()["lb2"].run("pkill", "-KILL", "-x", "haproxy")
        killed = time.monotonic()
        await moved(vip_lab, SECOND, "lb1")
        await moved(vip_lab, SECOND, "lb2")
        assert time.monotonic() - killed > RETURN_SECONDS - 1
    went_and_came_back(seen, limit(vip_lab, "haproxy-killed"))
    await home(vip_lab)


@pytest.mark.timeout(600)
async def test_a_balancer_without_power_loses_its_vip_to_the_other_until_it_is_back(
    vip_lab: Lab, tmp_path: Path
) -> None:
    await home(vip_lab)
    async with clients(vip_lab, tmp_path / "writes") as seen:
        assert (await vip_lab.pgbaton("lab", "power-off", "lb2")).ok
        await moved(vip_lab, SECOND, "lb1")
        status: dict[str, Any] = json.loads((await vip_lab.pgbaton("status", "-o", "json")).stdout)
        rules = {finding["rule"] for finding in status["findings"]}
        assert {"vip-away", "unreachable"} <= rules
        assert not rules & {"vip-missing", "vip-twice"}
        assert (await vip_lab.pgbaton("lab", "power-on", "lb2")).ok
        await moved(vip_lab, SECOND, "lb2")
    went_and_came_back(seen, limit(vip_lab, "balancer-power-off"))
    await home(vip_lab)


@pytest.mark.timeout(900)
async def test_a_vip_is_taken_out_and_added_while_clients_of_the_other_write(vip_lab: Lab, tmp_path: Path) -> None:
    await home(vip_lab)
    since = await started(vip_lab)
    # As one that was left behind: the present Keepalived of that balancer knows nothing of having it.
    await vip_lab.hosts()["lb1"].run("ip", "address", "add", f"{SECOND}/24", "dev", "eth0")
    without = tmp_path / "single.toml"
    without.write_text(re.sub(r"^more_vips.*\n", "", vip_lab.state.topology_file.read_text(), flags=re.MULTILINE))
    assert SECOND not in without.read_text()
    async with clients(vip_lab, tmp_path / "writes") as seen:
        planned = json.loads((await vip_lab.pgbaton("plan", str(without), "-o", "json")).stdout)
        removals = [step for wave in planned["waves"] for step in wave["steps"] if step["kind"] == "address"]
        assert sorted((step["host"], step["before"], step["cost"]) for step in removals) == [
            ("lb1", "held", "restart"),
            ("lb2", "held", "restart"),
        ]
        made = await vip_lab.pgbaton("apply", str(without), "--yes")
        assert made.ok, made.stderr
        for name in ("lb1", "lb2"):
            host = vip_lab.hosts()[name]
            assert SECOND not in (await host.run("ip", "-4", "-o", "address", "show")).stdout
            assert SECOND not in (await host.run("cat", keepalived.CONFIG)).stdout
            assert not (await host.run("test", "-e", keepalived.MORE_VIPS_FILE, check=False)).ok
        assert json.loads((await vip_lab.pgbaton("plan", "-o", "json")).stdout)["changes"] is False
        single = Lab(vip_lab.state, load(vip_lab.state.topology_file))
        assert "vips" not in await home(single)
        both = tmp_path / "several.toml"
        both.write_text(without.read_text().replace(VIP, f"{MORE}{VIP}"))
        made = await vip_lab.pgbaton("apply", str(both), "--yes")
        assert made.ok, made.stderr
        assert (await home(vip_lab))["vips"][1]["holders"] == ["lb2"]
    assert seen.holders(FIRST) == ["lb1"]
    assert seen.longest_gap("first") <= UNCONCERNED_SECONDS
    assert seen.longest_gap("any") <= SILENT_SECONDS
    assert await started(vip_lab) == since


async def started(lab: Lab) -> dict[str, str]:
    """Return when each balancer's Keepalived was started."""
    show = ("systemctl", "show", "--value", "-p", "ActiveEnterTimestampMonotonic", keepalived.UNIT)
    return {name: (await lab.hosts()[name].run(*show)).stdout.strip() for name in ("lb1", "lb2")}


@pytest.mark.timeout(900)
async def test_a_proof_watches_every_vip_and_strikes_the_first_ones_holder(vip_lab: Lab) -> None:
    await home(vip_lab)
    argv = (sys.executable, "-m", "pgbaton", "prove", "--target", NAME, "--trials", "1", "--workload", "set")
    faults = ("--fault", "haproxy-killed", "--fault", "backup-balancer-power-off")
    said = await process.run(*argv, *faults, "-o", "json", check=False, timeout=600)
    data: dict[str, Any] = json.loads(said.stdout)
    (trial,) = data["trials"]
    assert (trial["fault"], trial["hosts"], trial["lost"]) == ("haproxy-killed", ["lb1"], 0), said.stderr
    assert trial["checks"]["vip"]["validity"] == "valid"
    held = {(host, vip) for host, _, vip in trial["checks"]["vip"]["figures"]["holders"]}
    assert held >= {("lb1", FIRST), ("lb2", SECOND), ("lb2", FIRST)}
    (skipped,) = data["not_run"]
    assert skipped["fault"] == "backup-balancer-power-off"
    assert "every balancer holds a VIP" in skipped["reason"]
