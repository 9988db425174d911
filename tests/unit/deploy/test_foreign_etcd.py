"""What operators give for an etcd elsewhere, and what keeps a cluster from leaning on it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_topology import FILES, LOGIN, PASSWORD, foreign

from pgbaton import pki
from pgbaton.components import foreign as component
from pgbaton.components.base import Certificate
from pgbaton.deploy import engine, journal
from pgbaton.deploy import foreign as deploying
from pgbaton.deploy.foreign import Answer, complaints, given, leftovers, refuse_another, remarks
from pgbaton.deploy.steps import Plan
from pgbaton.errors import RefusedError, UsageError
from pgbaton.hosts.fake import FakeHost
from pgbaton.secrets import Vault
from pgbaton.state import ClusterState
from pgbaton.topology import load, presets

if TYPE_CHECKING:
    from pgbaton.topology.model import Topology

AUTHORITY = pki.make_authority("theirs")
US = pki.issue(AUTHORITY, Certificate("us", file="us", owner="root", common_name="pgbaton", client=True), days=30)
OTHER = pki.issue(AUTHORITY, Certificate("other", file="o", owner="root", common_name="other", client=True), days=30)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with everything that is given, as it should be."""
    for name, text in {
        "ca.crt": AUTHORITY.certificate,
        "us.crt": US.certificate,
        "us.key": US.key,
        "password": f"{PASSWORD}\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def topology(directory: Path, *, login: str = LOGIN) -> Topology:
    return foreign(files=FILES.replace("/srv/etcd", str(directory)), login=login.replace("/srv/etcd", str(directory)))


def test_all_of_it_is_taken_in(directory: Path, vault: Vault) -> None:
    assert given(topology(directory), vault) == {
        component.AUTHORITY: AUTHORITY.certificate,
        component.CERTIFICATE: US.certificate,
        component.KEY: US.key,
        component.PASSWORD: PASSWORD,
    }


def test_a_cluster_with_an_etcd_of_its_own_takes_nothing_in(vault: Vault) -> None:
    assert given(load.loads(presets.text("standard")), vault) == {}


def test_an_authority_may_be_several_certificates(directory: Path, vault: Vault) -> None:
    both = AUTHORITY.certificate + pki.make_authority("newer").certificate
    (directory / "ca.crt").write_text(both)
    assert given(topology(directory), vault)[component.AUTHORITY] == both


UNFIT = (
    ("ca.crt", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "ca_file", "no certificate in PEM"),
    ("ca.crt", "", "ca_file", "no text"),
    ("us.crt", "hello", "certificate_file", "no certificate in PEM"),
    ("us.key", "hello", "key_file", "no key in PEM"),
    ("us.key", OTHER.key, "key_file", "is not the key of"),
    ("password", "short\n", "user", "not one that every file here can carry"),
    ("password", 'with"quotes"\n', "user", "not one that every file here can carry"),
    ("password", "with blanks in it\n", "user", "not one that every file here can carry"),
)


@pytest.mark.parametrize("case", UNFIT, ids=lambda case: f"{case[0]}: {case[3]}")
def test_what_will_not_do_is_refused_without_being_repeated(
    directory: Path, vault: Vault, case: tuple[str, str, str, str]
) -> None:
    name, text, key, reason = case
    (directory / name).write_text(text)
    with pytest.raises(UsageError) as caught:
        given(topology(directory), vault)
    assert caught.value.where == f"etcd.{key}"
    assert reason in caught.value.message
    assert not text.strip() or text.strip() not in f"{caught.value}{caught.value.hint}"


def test_a_key_with_a_passphrase_is_refused(directory: Path, vault: Vault) -> None:
    key = serialization.load_pem_private_key(US.key.encode(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (directory / "us.key").write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"passphrase")))
    with pytest.raises(UsageError, match="passphrase"):
        given(topology(directory), vault)


@pytest.mark.parametrize("name", ["ca.crt", "us.crt", "us.key", "password"])
def test_a_file_that_is_not_there_is_named(directory: Path, vault: Vault, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(UsageError, match=f"{name} cannot be read: No such file"):
        given(topology(directory), vault)


def test_the_password_may_come_from_the_environment_and_is_kept_for_later(
    directory: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = topology(directory, login='user = "pgbaton"\n')
    monkeypatch.delenv(deploying.VARIABLE, raising=False)
    with pytest.raises(UsageError, match="no password of pgbaton"):
        given(wanted, vault)
    monkeypatch.setenv(deploying.VARIABLE, PASSWORD)
    vault.adopt(given(wanted, vault))
    monkeypatch.delenv(deploying.VARIABLE)
    assert component.PASSWORD not in given(wanted, vault)
    assert Vault(vault.directory).value(component.PASSWORD) == PASSWORD


def test_what_is_taken_in_provisionally_is_not_kept(vault: Vault) -> None:
    assert vault.adopt({component.KEY: US.key}, save=False) == (component.KEY,)
    assert vault.value(component.KEY) == US.key
    assert not vault.file.exists()
    assert vault.adopt({component.KEY: US.key}) == ()


def test_the_password_and_the_key_are_secrets_wherever_they_are_shown(vault: Vault) -> None:
    vault.adopt({component.KEY: US.key, component.PASSWORD: PASSWORD})
    assert set(vault.sensitive_values.values()) == {US.key, PASSWORD}
    assert PASSWORD not in vault.redact(f'password: "{PASSWORD}"')


# Which etcd a cluster has is settled.


def test_a_cluster_keeps_the_etcd_that_it_has() -> None:
    own, elsewhere = load.loads(presets.text("standard")), foreign()
    for before, wanted in ((own, elsewhere), (elsewhere, own)):
        with pytest.raises(RefusedError, match="cannot be changed"):
            refuse_another(before, wanted)
    refuse_another(None, elsewhere)
    refuse_another(elsewhere, elsewhere)
    refuse_another(own, own)


def with_etcd(**changes: Any) -> Topology:  # noqa: ANN401 - fields by name
    made = foreign()
    return made.model_copy(update={"etcd": made.etcd.model_copy(update=changes)})


def test_no_apply_that_was_begun_and_not_ended_is_forgotten(tmp_path: Path) -> None:
    """Hosts may have Patronis of the first of these, whatever was begun after it."""
    state = ClusterState("standard", tmp_path / "state")
    by_hand, own = presets.text("manual"), presets.text("standard")
    begin(state, 1, by_hand, None).record("end")
    begin(state, 2, own, by_hand)
    begin(state, 3, by_hand, by_hand)
    with pytest.raises(RefusedError, match="cannot be changed"):
        engine.refuse_another_etcd(state, load.loads(by_hand), foreign())
    engine.refuse_another_etcd(state, load.loads(by_hand), load.loads(own))
    begin(state, 4, by_hand, by_hand).record("end")
    engine.refuse_another_etcd(state, load.loads(by_hand), foreign())


def begin(state: ClusterState, number: int, text: str, previous: str | None) -> journal.Journal:
    return journal.begin(state, Plan(f"2025010{number}T000000-ab", "standard", "2025", text, previous, ()))


def test_its_record_stays_where_it_is() -> None:
    with pytest.raises(RefusedError, match="would be below /elsewhere/standard/"):
        refuse_another(foreign(), with_etcd(namespace="/elsewhere"))


def test_endpoints_change_as_long_as_one_of_before_is_left() -> None:
    one, *_ = foreign().etcd.endpoints
    refuse_another(foreign(), with_etcd(endpoints=(one, "https://10.9.0.9:2379")))
    with pytest.raises(RefusedError, match="one of before"):
        refuse_another(foreign(), with_etcd(endpoints=("https://10.9.0.9:2379",)))


# What hosts are told.


def told(number: int = 1, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return what a member says of itself before there is a cluster."""
    return {
        "endpoint": foreign().etcd.places[number - 1],
        "ok": True,
        "cluster": "14841639068965178418",
        "version": "3.5.16",
        "leader": "etcd1",
        "members": ["etcd1", "etcd2", "etcd3"],
        "db_size_bytes": 20480,
        "quota_bytes": None,
        "alarms": [],
        "initialize": None,
        "keys": 0,
        **changes,
    }


def silent(number: int) -> dict[str, Any]:
    return {"endpoint": foreign().etcd.places[number - 1], "ok": False, "reason": "timed out"}


def answers(*endpoints: dict[str, Any], **systems: str) -> list[Answer]:
    """Return what the databases are told; ``systems`` are those that have data."""
    return [Answer(host, endpoints, systems.get(host)) for host in ("db1", "db2", "db3")]


ALL = (told(1), told(2), told(3))
OURS = "7424242424242424242"


def owned(owner: str | None) -> tuple[dict[str, Any], ...]:
    return tuple(told(number, initialize=owner, keys=9) for number in (1, 2, 3))


def said(found: list[Answer], before: Topology | None = None, wanted: Topology | None = None) -> str:
    return "\n".join(complaints(wanted or foreign(), found, before))


def test_nothing_is_said_against_one_that_serves() -> None:
    assert said(answers(*ALL)) == ""
    assert said(answers(*owned(OURS), db1=OURS, db2=OURS), foreign()) == ""
    assert said(answers(*owned(OURS), db1=OURS)) == ""
    assert said(answers(*owned(""), db1=OURS)) == ""
    assert said(answers(told(1), told(2), silent(3))) == ""


def test_without_a_majority_each_host_says_why() -> None:
    text = said(answers(told(1), silent(2), silent(3)))
    assert text.count("1 of 3 endpoints serve it, wanted: 2; etcd2.example.org:2379: timed out") == 3


def test_a_certificate_that_the_gateway_refuses_for_its_name_is_told_what_would_do() -> None:
    said_by_etcd = "CommonName of client sending a request against gateway will be ignored and not used as expected"
    text = said(answers(*({**silent(number), "reason": said_by_etcd} for number in (1, 2, 3))))
    assert "ask for one without" in text


def test_endpoints_of_two_etcds_are_refused() -> None:
    assert "of different etcds" in said(answers(told(1), told(2, cluster="7"), told(3)))


def test_an_alarm_is_refused() -> None:
    assert "alarm NOSPACE" in said(answers(told(1, alarms=["NOSPACE"]), told(2), told(3)))


def test_a_record_of_another_cluster_is_refused_with_what_would_free_it() -> None:
    text = said(answers(*owned(OURS)))
    assert f"the record of another cluster, of database {OURS}" in text
    assert "etcdctl del --prefix /pg/production/standard/" in text


def test_data_that_the_record_is_not_about_are_refused() -> None:
    text = said(answers(*owned(OURS), db1=OURS, db2="99"), foreign())
    assert f"the record of database {OURS}, and the data here are of 99 on db2" in text


def test_data_without_a_record_are_of_another_etcd() -> None:
    assert "there are data on db1, and no record of them" in said(answers(*ALL, db1=OURS), foreign())


def test_a_cluster_that_lost_all_its_data_is_not_called_another_one() -> None:
    assert said(answers(*owned(OURS)), foreign()) == ""


def test_other_endpoints_are_taken_only_beside_one_of_before_that_answers() -> None:
    one, two, _ = foreign().etcd.endpoints
    wanted = with_etcd(endpoints=(one, "https://10.9.0.8:2379", "https://10.9.0.9:2379"))
    new = [told(1, endpoint=place, initialize=OURS) for place in wanted.etcd.places]
    assert said(answers(*new, db1=OURS), foreign(), wanted) == ""
    gone = [{**silent(1), "endpoint": new[0]["endpoint"]}, *new[1:]]
    assert "no endpoint of before answers" in said(answers(*gone, db1=OURS), foreign(), wanted)
    assert two


def test_keys_that_nobody_owns_are_left_alone_by_a_new_cluster() -> None:
    assert "4 keys are below /pg/production/standard/" in "".join(
        leftovers(foreign(), answers(told(1, keys=4), told(2)))
    )
    assert list(leftovers(foreign(), answers(*ALL))) == []
    assert list(leftovers(foreign(), answers(*owned(OURS)))) == []


def test_what_cannot_be_seen_is_said() -> None:
    text = "\n".join(remarks(answers(told(1), told(2), silent(3))))
    assert "not every endpoint answers db1: 10.9.0.3:12379: timed out" in text
    assert "quota and its compaction cannot be seen" in text
    assert "alarms" not in text
    hidden = [replace(answer, endpoints=(told(1, alarms=None, quota_bytes=2**31),)) for answer in answers()]
    assert "\n".join(remarks(hidden)) == "etcd: its alarms are not shown to this user; status cannot tell of them"


async def test_secrets_go_to_a_host_over_standard_input_alone(directory: Path, vault: Vault) -> None:
    wanted = topology(directory)
    vault.adopt(given(wanted, vault))
    reply = json.dumps({"endpoints": ALL, "system": None})
    hosts = {host.name: FakeHost(host.name, answers={("python3", "-I", "-S", "-"): reply}) for host in wanted.hosts}
    notes = await deploying.check(wanted, hosts, vault, before=None)
    assert notes
    assert {name for name, host in hosts.items() if host.calls} == {host.name for host in wanted.voters}
    for host in hosts.values():
        for argv, given_over_input in host.calls:
            assert "secret" not in " ".join(argv)
            assert "PRIVATE KEY" not in " ".join(argv)
            assert "a#{secret}!" in given_over_input


async def test_a_refusal_names_all_that_is_wrong_and_holds_no_secret(directory: Path, vault: Vault) -> None:
    wanted = topology(directory)
    vault.adopt(given(wanted, vault))
    reply = json.dumps({"endpoints": [silent(1), silent(2), told(3)], "system": None})
    hosts = {host.name: FakeHost(host.name, answers={("python3", "-I", "-S", "-"): reply}) for host in wanted.hosts}
    with pytest.raises(RefusedError) as caught:
        await deploying.check(wanted, hosts, vault, before=None)
    assert "nothing was changed" in caught.value.message
    assert "db1: 1 of 3 endpoints" in caught.value.message
    assert PASSWORD not in str(caught.value)
