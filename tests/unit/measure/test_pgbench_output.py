"""How pgbench is called, and what its output is taken for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from made_measurement import standing

from pgbaton.measure import latency, pgbench, ways
from pgbaton.measure.latency import Latencies
from pgbaton.measure.pgbench import Login
from pgbaton.measure.plan import Case

if TYPE_CHECKING:
    from pathlib import Path

HELD = """pgbench (17.6 (Debian 17.6-0+deb13u1))
transaction type: /run/pgbaton-measure/select-only.sql
scaling factor: 1
query mode: prepared
number of clients: 16
number of threads: 2
maximum number of tries: 1
duration: 5 s
number of transactions actually processed: 41234
number of failed transactions: 3 (0.007%)
latency average = 1.939 ms
initial connection time = 63.628 ms
tps = 8250.207053 (without initial connection time)
-- latencies
1910 4
250 6
"""
NEW = """number of transactions actually processed: 197
number of failed transactions: 0 (0.000%)
latency average = 84.552 ms
average connection time = 71.038 ms
tps = 94.617194 (including reconnection times)
-- latencies
"""
LOST = """pgbench: error: client 3 aborted in command 1 (SQL) of script 0; perhaps the backend died while processing
pgbench: error: client 12 aborted in command 1 (SQL) of script 0; perhaps the backend died while processing
WARNING:  canceling wait for synchronous replication
pgbench: error: Run was aborted; the above results are incomplete.
"""
LOGIN = Login("app", "app", "/run/dir")
DIRECT = ways.layout(standing(), ways.USUAL, client=None).way("direct")


def test_a_run_with_held_connections_is_read() -> None:
    seen = pgbench.read(HELD, "", 0)
    assert (seen.transactions, seen.per_second, seen.login_seconds) == (41234, 8250.207053, None)
    assert seen.latencies == Latencies({1910: 4, 250: 6})
    assert seen.errors == {"transactions failed": 3}


def test_a_run_with_new_connections_tells_how_long_a_login_took() -> None:
    seen = pgbench.read(NEW, "", 0)
    assert (seen.transactions, seen.per_second) == (197, 94.617194)
    assert seen.login_seconds == pytest.approx(0.071038)
    assert (seen.latencies.total, seen.errors) == (0, {})


def test_what_clients_complain_of_is_counted_by_what_it_says_not_by_who_says_it() -> None:
    seen = pgbench.read(HELD.replace("transactions: 3", "transactions: 0"), LOST, 2)
    assert list(seen.errors.values()) == [2, 1]
    first, second = pgbench.told(seen.errors)
    assert first.startswith("2 times: a client aborted in command 1")
    assert second == "1 times: Run was aborted; the above results are incomplete."


def test_a_run_that_says_nothing_is_an_error_all_the_same() -> None:
    seen = pgbench.read("-- latencies\n", "", 137)
    assert (seen.transactions, seen.per_second) == (0, 0.0)
    assert seen.errors == {"pgbench ended with exit status 137": 1}


def test_of_many_kinds_of_errors_the_commonest_are_told() -> None:
    told = pgbench.told({"a": 1, "b": 1000, "c": 3, "d": 2, "e": 1})
    assert told == ["1,000 times: b", "3 times: c", "2 times: d", "and 2 other kinds"]


def test_threads_are_as_many_as_cores_unless_each_has_to_log_in() -> None:
    held = pgbench.argv("pgbench", Case("tpcb", "extended", 150), LOGIN, DIRECT, seconds=5, cores=4)
    new = pgbench.argv("pgbench", Case("tpcb", "simple", 150, connect=True), LOGIN, DIRECT, seconds=5, cores=4)
    one = pgbench.argv("pgbench", Case("tpcb", "simple", 1), LOGIN, DIRECT, seconds=5, cores=4)
    assert {"--client=150", "--jobs=4", "--protocol=extended", "--time=5", "--file=/run/dir/tpcb.sql"} <= set(held)
    assert "--connect" not in held
    assert {"--jobs=150", "--connect"} <= set(new)
    assert "--jobs=1" in one


def test_a_long_run_logs_a_share_of_its_transactions_unless_that_would_part_logins() -> None:
    long = pgbench.argv("pgbench", Case("tpcb", "simple", 1), LOGIN, DIRECT, seconds=300, cores=1)
    assert "--sampling-rate=0.100" in long
    new = pgbench.argv("pgbench", Case("tpcb", "simple", 1, connect=True), LOGIN, DIRECT, seconds=300, cores=1)
    assert not any("sampling" in word for word in new)


def test_clients_verify_the_server_and_find_the_password_in_a_file() -> None:
    assert LOGIN.conninfo(DIRECT) == (
        "host='10.77.0.21' port='5432' dbname='app' user='app' sslmode='verify-full' sslrootcert='/run/dir/ca.crt' "
        "passfile='/run/dir/passfile' connect_timeout='30' application_name='pgbaton bench'"
    )
    assert "dbname='it\\'s'" in Login("app", "it's", "/run/dir").conninfo(DIRECT)
    assert pgbench.passfile("a:b\\c") == "*:*:*:*:a\\:b\\\\c\n"


def run_script(directory: Path, *argv: str, connect: bool = False) -> subprocess.CompletedProcess[str]:
    (directory / "run.sh").write_text(pgbench.RUN)
    (directory / "count.awk").write_text(latency.COUNT)
    words = ("sh", "run.sh", str(directory), str(int(connect)), *argv)
    return subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)


def logging(*lines: str) -> tuple[str, ...]:
    """Return a program that logs its last line as another thread does, and ends with 3."""
    *first, last = lines
    script = 'printf "%s\\n" "$1" > log.7.1; shift; printf "%s\\n" "$@" > log.7; echo tps; exit 3'
    return ("sh", "-c", script, "sh", last, *first)


def test_latencies_are_counted_on_the_host_to_three_digits(tmp_path: Path) -> None:
    lines = (
        "0 1 123 0 1700000000 5",
        "1 1 4567 0 1700000000 6",
        "1 2 4561 0 1700000001 7",
        "0 2 failed 0 1700000001 8",
    )
    ended = run_script(tmp_path, *logging(*lines))
    report, _, counts = ended.stdout.partition("-- latencies\n")
    assert (report, ended.returncode) == ("tps\n", 3)
    assert latency.parse(counts.splitlines()) == Latencies({123: 1, 4560: 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["count.awk", "run.sh"]


def test_with_logins_a_transaction_counts_from_the_end_of_the_one_before_it(tmp_path: Path) -> None:
    lines = (
        "0 1 100 0 1700000000 999000",
        "0 2 100 0 1700000001 4000",
        "0 3 9 0 1700000001 4700",
        "5 1 9 0 1700000001 1",
    )
    ended = run_script(tmp_path, *logging(*lines), connect=True)
    seen = latency.parse(ended.stdout.partition("-- latencies\n")[2].splitlines())
    assert seen == Latencies({5000: 1, 700: 1})


def test_a_quantile_is_the_latency_that_a_share_did_not_exceed() -> None:
    seen = Latencies({100: 50, 2_000: 45, 30_000: 4, 400_000: 1})
    assert [seen.quantile(share) for share in (0.5, 0.51, 0.95, 0.99, 1.0)] == [0.1, 2.0, 2.0, 30.0, 400.0]
    assert Latencies({}).quantile(0.5) is None
    both = latency.merged([seen, Latencies({100: 1, 7: 1})])
    assert both.counts == {7: 1, 100: 51, 2_000: 45, 30_000: 4, 400_000: 1}
