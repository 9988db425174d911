"""What hosts get to ask an etcd that is elsewhere, and what they get no longer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_topology import ENDPOINTS, PASSWORD, foreign

from pgbaton import blueprint, references
from pgbaton.agent import settings as agent_settings
from pgbaton.agent import settings_file
from pgbaton.components import agent, patroni
from pgbaton.components import foreign as component
from pgbaton.errors import UnhealthyError
from pgbaton.hosts.fake import FakeHost
from pgbaton.secrets import Vault

if TYPE_CHECKING:
    from pgbaton.components.base import File
    from pgbaton.topology.model import Topology

PLACES = ["10.9.0.1:2379", "etcd2.example.org:2379", "10.9.0.3:12379"]
TLS = "/etc/pgbaton/tls"
STOCK = "\n[orchestration]\nagent = false\n"


def files(topology: Topology, host: str) -> dict[str, File]:
    return {file.path: file for file in blueprint.draw(topology).host(host).files}


def text(topology: Topology, host: str, path: str) -> str:
    content = files(topology, host)[path].content
    assert isinstance(content, str)
    return content


def filled(directory: Path, topology: Topology) -> Vault:
    """Return a vault with all that a topology's files refer to."""
    drawn = blueprint.draw(topology)
    vault = Vault(directory)
    vault.adopt(
        {
            component.AUTHORITY: "CA\n",
            component.CERTIFICATE: "US\n",
            component.KEY: "KEY\n",
            component.PASSWORD: PASSWORD,
        }
    )
    vault.ensure(drawn.passwords, drawn.certificates, shared_keys=drawn.shared_keys, days=30)
    return vault


def test_patronis_key_is_its_users_alone_and_the_agents_is_roots() -> None:
    seen = {
        path: (file.mode, file.owner, file.unit) for path, file in files(foreign(), "db1").items() if "etcd" in path
    }
    assert seen == {
        f"{TLS}/etcd-ca.crt": (0o644, "root", None),
        f"{TLS}/etcd-client.crt": (0o644, "root", None),
        f"{TLS}/etcd-client.key": (0o600, "postgres", "patroni.service"),
        f"{TLS}/agent-etcd.crt": (0o644, "root", None),
        f"{TLS}/agent-etcd.key": (0o600, "root", "pgbaton-agent.service"),
        "/usr/lib/pgbaton/etcd.py": (0o755, "root", None),
        "/etc/pgbaton/etcd.json": (0o600, "root", None),
    }


def test_a_balancer_has_what_its_agent_shows_and_nothing_else() -> None:
    seen = {path for path in files(foreign(), "lb1") if "etcd" in path}
    assert seen == {f"{TLS}/etcd-ca.crt", f"{TLS}/agent-etcd.crt", f"{TLS}/agent-etcd.key"}


def test_nothing_of_an_etcd_of_its_own_is_left() -> None:
    drawn = blueprint.draw(foreign())
    assert not {certificate.name for certificate in drawn.certificates if "etcd" in certificate.name}
    for host in drawn.hosts:
        assert "etcd-server" not in host.packages
        assert "etcd.service" not in {unit.name for unit in host.units}
        assert "2380" not in "".join(file.shown for file in host.files if file.path == "/etc/pgbaton/firewall.nft")


def test_no_secret_is_in_what_is_rendered() -> None:
    topology = foreign()
    for host in blueprint.draw(topology).hosts:
        for file in host.files:
            names = references.names(file.shown)
            assert not {component.KEY, component.PASSWORD} & set(names) or file.mode == 0o600
            assert PASSWORD not in file.shown


def test_patroni_asks_the_endpoints_as_a_user_below_the_namespace(tmp_path: Path) -> None:
    topology = foreign()
    resolved = filled(tmp_path, topology).resolve(text(topology, "db1", patroni.CONFIG))
    told = yaml.safe_load(resolved)
    assert told["namespace"] == "/pg/production"
    assert sorted(told["etcd3"].pop("hosts")) == sorted(PLACES)
    assert told["etcd3"] == {
        "use_proxies": True,
        "protocol": "https",
        "cacert": f"{TLS}/etcd-ca.crt",
        "cert": f"{TLS}/etcd-client.crt",
        "key": f"{TLS}/etcd-client.key",
        "username": "pgbaton",
        "password": PASSWORD,
    }


def test_each_host_begins_with_another_endpoint() -> None:
    topology = foreign()
    first = [patroni.members(topology, host)[0] for host in topology.hosts[-3:]]
    assert sorted(first) == sorted(PLACES)


def test_other_endpoints_restart_patroni_which_reads_them_only_then() -> None:
    path = "/etc/systemd/system/patroni.service.d/pgbaton.conf"
    assert f"X-Etcd={' '.join(ENDPOINTS)}" in text(foreign(), "db1", path)


def test_where_etcd_asks_for_no_certificate_nobody_gets_one(tmp_path: Path) -> None:
    topology = foreign(files='ca_file = "/srv/etcd/ca.crt"\n')
    assert {path for path in files(topology, "db1") if path.startswith(TLS) and "etcd" in path} == {
        f"{TLS}/etcd-ca.crt"
    }
    assert "cert" not in patroni.etcd_client(topology, topology.host("db1"))
    told = read(tmp_path, topology)
    assert (told.tls.etcd_authority, told.tls.etcd_certificate) == (Path(f"{TLS}/etcd-ca.crt"), None)


def test_without_tls_there_is_nothing_to_show_or_to_verify_with(tmp_path: Path) -> None:
    etcd = foreign().etcd.model_copy(
        update={
            "endpoints": ("http://10.9.0.1:2379",),
            "ca_file": None,
            "certificate_file": None,
            "key_file": None,
            "plain_http": True,
        }
    )
    plain = foreign().model_copy(update={"etcd": etcd})
    assert patroni.etcd_client(plain, plain.host("db1"))["protocol"] == "http"
    assert "cacert" not in patroni.etcd_client(plain, plain.host("db1"))
    assert {path for path in files(plain, "db1") if path.startswith(TLS) and "etcd" in path} == set()
    told = read(tmp_path, plain)
    assert told.etcd is not None
    assert told.etcd.plain
    assert told.tls.etcd_authority is None


def read(directory: Path, topology: Topology, host: str = "db1") -> agent_settings.Settings:
    """Return the settings as the agent on a host would read them."""
    vault = filled(directory / "vault", topology)
    paths = []
    for path in (agent.SETTINGS, agent.SECRETS):
        paths.append(directory / path.rpartition("/")[2])
        paths[-1].write_text(vault.resolve(text(topology, host, path)))
        paths[-1].chmod(0o600)
    return settings_file.load(*paths)


def test_the_agent_is_told_where_etcd_is_and_as_whom_to_log_in(tmp_path: Path) -> None:
    told = read(tmp_path, foreign(), "lb1")
    assert told.etcd is not None
    assert sorted(told.etcd.endpoints) == sorted(PLACES)
    assert (told.etcd.plain, told.etcd.user, told.secrets.etcd_password) == (False, "pgbaton", PASSWORD)
    assert told.dcs_prefix == "/pg/production/standard/"


@pytest.mark.parametrize("host", ["db1", "lb1"])
def test_without_agents_only_databases_ask(host: str) -> None:
    topology = foreign()
    stock = topology.model_copy(update={"orchestration": topology.orchestration.model_copy(update={"agent": False})})
    seen = {path for path in files(stock, host) if "etcd" in path}
    assert (f"{TLS}/etcd-client.key" in seen) == (host == "db1")
    assert not any("agent" in path for path in seen)


def test_the_program_on_a_database_is_told_the_same(tmp_path: Path) -> None:
    topology = foreign()
    told: dict[str, Any] = json.loads(filled(tmp_path, topology).resolve(text(topology, "db1", component.SETTINGS)))
    assert told == {
        "endpoints": PLACES,
        "plain": False,
        "prefix": "/pg/production/standard/",
        "authority": f"{TLS}/etcd-ca.crt",
        "certificate": f"{TLS}/etcd-client.crt",
        "key": f"{TLS}/etcd-client.key",
        "user": "pgbaton",
        "password": PASSWORD,
    }
    program = files(topology, "db1")[component.PROGRAM].content
    assert isinstance(program, bytes)
    compile(program, component.PROGRAM, "exec")
    assert program.endswith(b"\n\ndeployed()\n")


async def test_it_works_where_any_endpoint_answers_a_database() -> None:
    topology = foreign()
    good, bad = {"endpoint": "a:1", "ok": True}, {"endpoint": "b:1", "ok": False, "reason": "timed out"}
    asked = (*component.RUN, "health")
    for name, told in (("db1", [bad, good]), ("lb1", [])):
        hosts = {name: FakeHost(name, answers={asked: json.dumps({"endpoints": told})})}
        await component.Foreign().probe(topology, topology.host(name), hosts)
    hosts = {"db1": FakeHost("db1", answers={asked: json.dumps({"endpoints": [bad, bad]})})}
    with pytest.raises(UnhealthyError, match="b:1: timed out"):
        await component.Foreign().probe(topology, topology.host("db1"), hosts)
