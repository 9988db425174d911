"""What must be refused or doubted: one case each, as a change to a sound topology."""

from __future__ import annotations

from dataclasses import dataclass

#: Marks the line that a problem must name.
HERE = "# here"

BASE = """\
schema = 1

[cluster]
name = "trial"

[network]
subnet = "10.77.0.0/24"
vip = "10.77.0.100"

[[hosts]]
name = "lb1"
address = "10.77.0.11"
roles = ["balancer"]

[[hosts]]
name = "lb2"
address = "10.77.0.12"
roles = ["balancer"]

[[hosts]]
name = "db1"
address = "10.77.0.21"
roles = ["database", "dcs"]

[[hosts]]
name = "db2"
address = "10.77.0.22"
roles = ["database", "dcs"]

[[hosts]]
name = "db3"
address = "10.77.0.23"
roles = ["database", "dcs"]
"""

LB1_APPLICATION = 'name = "lb1"\naddress = "10.77.0.11"\nroles = ["application"]'
LB2 = 'name = "lb2"\naddress = "10.77.0.12"\nroles = ["balancer"]'
DB1 = 'name = "db1"\naddress = "10.77.0.21"\nroles = ["database", "dcs"]'
DB2 = 'name = "db2"\naddress = "10.77.0.22"\nroles = ["database", "dcs"]'
DB3 = 'name = "db3"\naddress = "10.77.0.23"\nroles = ["database", "dcs"]'
VIP = 'vip = "10.77.0.100"'
SUBNET = 'subnet = "10.77.0.0/24"'
CLUSTER = 'name = "trial"'


@dataclass(frozen=True)
class Case:
    """A change to BASE (``old`` becomes ``new``; without ``old`` it is added at the end) and what is to be said."""

    name: str
    path: str
    reason: str
    new: str
    old: str = ""
    more: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        text = BASE
        for old, new in ((self.old, self.new), *self.more):
            assert not old or text.count(old) == 1, f"{self.name}: {old!r} stands {text.count(old)} times in the text"
            text = text.replace(old, new) if old else f"{text}\n{new}\n"
        return text

    @property
    def line(self) -> int | None:
        lines = [number for number, line in enumerate(self.text.split("\n"), 1) if HERE in line]
        return lines[0] if lines else None


STRUCTURE = (
    Case("unknown key", "timings.lop_wait", "no key", "[timings]\nlop_wait = 1 # here"),
    Case("unknown table", "pooler", "no key", "[pooler] # here\nsize = 1"),
    Case("key of another table", "network.ttl", "no key", f"{VIP}\nttl = 20 # here", VIP),
    Case("look-alike key", 'network."\\u03bdip"', "GREEK SMALL LETTER NU", f'{VIP}\n"\\u03bdip" = 1 # here', VIP),
    Case("number as text", "timings.ttl", "must be a whole number", '[timings]\nttl = "20" # here'),
    Case("duration with a unit", "timings.ttl", "must be a whole number", '[timings]\nttl = "20s" # here'),
    Case(
        "size with a unit", "balancing.max_lag_mb", "must be a whole number", '[balancing]\nmax_lag_mb = "16MB" # here'
    ),
    Case("truth as number", "timings.ttl", "true or false", "[timings]\nttl = true # here"),
    Case(
        "text as truth or nothing",
        "orchestration.agent",
        "must be true or false",
        '[orchestration]\nagent = "auto" # here',
    ),
    Case("number as truth", "security.firewall", "must be true or false", "[security]\nfirewall = 1 # here"),
    Case("decimals for a count", "pooling.size", "must be a whole number", "[pooling]\nsize = 1.5 # here"),
    Case(
        "text for a table",
        "cluster",
        "must be a table",
        'cluster = "trial" # here\n\n[x]\n',
        '[cluster]\nname = "trial"',
    ),
    Case("text for an array", "hosts[1].roles", "must be an array", LB2.replace("[", "").replace("]", " # here"), LB2),
    Case("date for a number", "timings.ttl", "date or time", "[timings]\nttl = 2020-01-01 # here"),
    Case("no number at all", "timings.check_interval", "no finite number", "[timings]\ncheck_interval = nan # here"),
    Case("endless duration", "timings.query_wait", "no finite number", "[timings]\nquery_wait = inf # here"),
    Case("negative size", "pooling.size", "at least 1", "[pooling]\nsize = -1 # here"),
    Case(
        "negative duration", "timings.check_interval", "more than 0 seconds", "[timings]\ncheck_interval = -0.2 # here"
    ),
    Case("huge number", "pooling.max_clients", "at most 100000", f"[pooling]\nmax_clients = {10**30} # here"),
    Case("schema missing", "schema", "is missing", "", "schema = 1\n"),
    Case("schema unknown", "schema", "must be 1", "schema = 2 # here", "schema = 1"),
    Case("cluster missing", "cluster", "is missing", "", '[cluster]\nname = "trial"\n'),
    Case("host without address", "hosts[1].address", "is missing", 'name = "lb2" # table\nroles = ["balancer"]', LB2),
    Case(
        "unknown role", "hosts[1].roles[0]", "must be 'balancer'", LB2.replace('"balancer"]', '"balance"] # here'), LB2
    ),
    Case("host without roles", "hosts[1].roles", "at least one", LB2.replace('["balancer"]', "[] # here"), LB2),
    Case("no users", "users", "at least one", "users = [] # here\nschema = 1", "schema = 1"),
    Case("no databases", "databases", "at least one", "databases = [] # here\nschema = 1", "schema = 1"),
    Case("unknown mode", "replication.mode", "must be 'asynchronous'", '[replication]\nmode = "sync" # here'),
    Case("unknown version", "postgresql.version", "must be 15 or 17", "[postgresql]\nversion = 16 # here"),
    Case("port 0", "postgresql.port", "at least 1", "[postgresql]\nport = 0 # here"),
    Case("port 65536", "balancing.write_port", "at most 65535", "[balancing]\nwrite_port = 65536 # here"),
    Case("router identity 0", "network.virtual_router_id", "at least 1", f"{VIP}\nvirtual_router_id = 0 # here", VIP),
    Case(
        "router identity 256", "network.virtual_router_id", "at most 255", f"{VIP}\nvirtual_router_id = 256 # here", VIP
    ),
    Case("priority 0", "hosts[1].priority", "at least 1", f"{LB2}\npriority = 0 # here", LB2),
    Case("priority 255", "hosts[1].priority", "at most 254", f"{LB2}\npriority = 255 # here", LB2),
    Case("synchronous count 0", "replication.count", "at least 1", "[replication]\ncount = 0 # here"),
    Case("loop below the floor", "timings.loop_wait", "at least 1", "[timings]\nloop_wait = 0 # here"),
    Case(
        "interface too long", "network.interface", "15 characters", f'{VIP}\ninterface = "abcdefghijklmnop" # here', VIP
    ),
    Case("interface empty", "network.interface", "no network interface", f'{VIP}\ninterface = "" # here', VIP),
    Case(
        "interface with directives",
        "network.interface",
        "no network interface",
        f'{VIP}\ninterface = "eth0 {{}}" # here',
        VIP,
    ),
    Case("host name with _", "hosts[1].name", "one replication slot", LB2.replace('"lb2"', '"db_1" # here'), LB2),
    Case("host name in capitals", "hosts[1].name", "small letters", LB2.replace('"lb2"', '"LB1" # here'), LB2),
    Case(
        "look-alike letter", "hosts[1].name", "CYRILLIC SMALL LETTER A", LB2.replace('"lb2"', '"l\u04302" # here'), LB2
    ),
    Case("cluster name with /", "cluster.name", "no cluster name", 'name = "a/b" # here', CLUSTER),
    Case("scope with ..", "cluster.scope", "no cluster name", f'{CLUSTER}\nscope = "../b" # here', CLUSTER),
    Case(
        "database name with -",
        "databases[0].name",
        "without quotes",
        '[[databases]]\nname = "my-app" # here\nowner = "app"',
    ),
    Case(
        "user name too long",
        "users[0].name",
        "without quotes",
        f'[[users]]\nname = "{"a" * 64}" # here',
        more=(("", '[[databases]]\nname = "app"\nowner = "app"'),),
    ),
    Case(
        "failure domain with blanks",
        "hosts[1].failure_domain",
        "failure domain",
        f'{LB2}\nfailure_domain = "rack 1" # here',
        LB2,
    ),
    Case("login that is an option", "ssh.user", "option of ssh", '[ssh]\nuser = "-oProxyCommand" # here'),
    Case(
        "setting's name in capitals",
        "postgresql.settings.Work_Mem",
        "no name",
        "[postgresql.settings]\nWork_Mem = 1 # here",
    ),
    Case(
        "setting's name split",
        "postgresql.settings.auto_explain",
        "needs quotes",
        "[postgresql.settings]\nauto_explain.log_nested = true # here",
    ),
    Case(
        "setting as array",
        "postgresql.settings.work_mem",
        "is an array",
        "[postgresql.settings]\nwork_mem = [1] # here",
    ),
    Case(
        "endless setting",
        "postgresql.settings.seq_page_cost",
        "no finite number",
        "[postgresql.settings]\nseq_page_cost = inf # here",
    ),
    Case("not an address", "hosts[1].address", "no IPv4 address", LB2.replace('.12"', '.300" # here'), LB2),
    Case("leading zeros", "hosts[1].address", "leading zeros", LB2.replace('.12"', '.012" # here'), LB2),
    Case(
        "no address of IPv6", "hosts[1].address", "no IPv6 address", LB2.replace('10.77.0.12"', 'fd00::g" # here'), LB2
    ),
    Case(
        "no network of IPv6",
        "network.subnet",
        "no IPv6 network",
        'subnet = "fd00::/129" # here',
        SUBNET,
    ),
    Case(
        "subnet of IPv6 with host bits",
        "network.subnet",
        "behind its mask",
        'subnet = "fd00::1/64" # here',
        SUBNET,
    ),
    Case(
        "subnet with host bits",
        "network.subnet",
        "behind its mask",
        'subnet = "10.77.0.1/24" # here',
        SUBNET,
    ),
    Case("two VIPs", "network.vip", "one floating address", 'vip = ["10.77.0.100", "10.77.0.101"] # here', VIP),
    Case("newline in a value", "hosts[1].ssh", "newline", f'{LB2}\nssh = "lb2\\nProxyCommand x" # here', LB2),
    Case(
        "newline in a setting",
        "postgresql.settings.work_mem",
        "newline",
        '[postgresql.settings]\nwork_mem = "1MB\\nfsync=off" # here',
    ),
    Case(
        "a secret's reference in a setting",
        "postgresql.settings.work_mem",
        "reference to a secret",
        '[postgresql]\nsettings = { work_mem = "<<secret:password/rest>>" } # here',
    ),
    Case("NUL in a path", "ssh.identity_file", "control character", '[ssh]\nidentity_file = "/a\\u0000b" # here'),
    Case("newline in a key", 'network."a\\nb"', "control character", f'{VIP}\n"a\\nb" = 1 # here', VIP),
)

ELSEWHERE = (
    Case(
        "password", "users[0].password", "secrets do not belong", '[[users]]\nname = "app"\npassword = "hunter2" # here'
    ),
    Case("VRRP password", "network.auth_pass", "secrets do not belong", f'{VIP}\nauth_pass = "hunter2" # here', VIP),
    Case("version of one host", "hosts[1].version", "same PostgreSQL major", f"{LB2}\nversion = 15 # here", LB2),
    Case(
        "pg_hba", "postgresql.pg_hba", "is generated", '[postgresql]\npg_hba = ["host all all 0.0.0.0/0 trust"] # here'
    ),
    Case("several VIPs", "network.vips", "key of its own", f'{VIP}\nvips = ["10.77.0.101"] # here', VIP),
    Case("second family", "hosts[1].ipv6", "a host has one address", f'{LB2}\nipv6 = "fd00::1" # here', LB2),
    Case("peer", "hosts[1].peers", "never the host itself", f'{LB2}\npeers = ["lb2"] # here', LB2),
    Case(
        "strict beside the mode",
        "replication.strict",
        "one switch",
        '[replication]\nmode = "asynchronous"\nstrict = true # here',
    ),
    Case("agent", "agent", "part of the orchestration", "agent = true # here\nschema = 1", "schema = 1"),
)

HOSTS = (
    Case("IPv6 host", "hosts[1].address", "of one family", LB2.replace('10.77.0.12"', 'fd00::12" # here'), LB2),
    Case("link-local host", "hosts[1].address", "link-local", LB2.replace('10.77.0.12"', 'fe80::12" # here'), LB2),
    Case("host on a link", "hosts[1].address", "link-local", LB2.replace('10.77.0.12"', 'fd00::12%eth0" # here'), LB2),
    Case("mapped host", "hosts[1].address", "clothes", LB2.replace('10.77.0.12"', '::ffff:10.77.0.12" # here'), LB2),
    Case("name twice", "hosts[1].name", "hosts[0]", LB2.replace('"lb2"', '"lb1" # here'), LB2),
    Case("called localhost", "hosts[1].name", "every machine's name", LB2.replace('"lb2"', '"localhost" # here'), LB2),
    Case("address twice", "hosts[1].address", "address of lb1", LB2.replace('.12"', '.11" # here'), LB2),
    Case("loopback", "hosts[1].address", "loopback", LB2.replace('10.77.0.12"', '127.0.0.1" # here'), LB2),
    Case("multicast", "hosts[1].address", "multicast", LB2.replace('10.77.0.12"', '224.0.0.18" # here'), LB2),
    Case("any", "hosts[1].address", "means any", LB2.replace('10.77.0.12"', '0.0.0.0" # here'), LB2),
    Case(
        "limited broadcast", "hosts[1].address", "broadcast", LB2.replace('10.77.0.12"', '255.255.255.255" # here'), LB2
    ),
    Case("broadcast", "hosts[1].address", "broadcast address of", LB2.replace('.12"', '.255" # here'), LB2),
    Case("network address", "hosts[1].address", "network address of", LB2.replace('.12"', '.0" # here'), LB2),
    Case(
        "outside the subnet",
        "hosts[1].address",
        "outside network.subnet",
        LB2.replace('77.0.12"', '78.0.12" # here'),
        LB2,
    ),
    Case(
        "gateway's address",
        "hosts[1].address",
        "gateway",
        LB2.replace('.12"', '.1" # here'),
        LB2,
        more=((VIP, f'{VIP}\ngateway = "10.77.0.1"'),),
    ),
    Case(
        "role twice",
        "hosts[1].roles[1]",
        "already has",
        LB2.replace('"balancer"]', '"balancer", "balancer"] # here'),
        LB2,
    ),
    Case("no pooler", "pooling.placement", "no host has the role pooler", '[pooling]\nplacement = "pooler" # here'),
    Case(
        "no application",
        "pooling.placement",
        "no host has the role application",
        '[pooling]\nplacement = "application" # here',
    ),
    Case("no such placement", "pooling.placement", "must be 'balancer'", '[pooling]\nplacement = "vip" # here'),
    Case(
        "one database",
        "hosts",
        "1 host has the role database",
        DB3.replace('"database", ', ""),
        DB3,
        more=(
            (
                '"db2"\naddress = "10.77.0.22"\nroles = ["database", "dcs"]',
                '"db2"\naddress = "10.77.0.22"\nroles = ["dcs"]',
            ),
        ),
    ),
    Case(
        "no standby may lead",
        "hosts[3].failover",
        "no standby",
        'address = "10.77.0.22"\nfailover = false # here',
        'address = "10.77.0.22"',
        more=(('address = "10.77.0.23"', 'address = "10.77.0.23"\nfailover = false'),),
    ),
    Case("even etcd", "hosts", "4 hosts have the role dcs", LB2.replace('"balancer"]', '"balancer", "dcs"]'), LB2),
    Case("two etcd members", "hosts", "could not lose a member", DB3.replace(', "dcs"', ""), DB3),
    Case(
        "quorum in one domain",
        "hosts[2].failure_domain",
        "2 of 3 etcd members",
        'address = "10.77.0.21"\nfailure_domain = "a" # here',
        'address = "10.77.0.21"',
        more=(
            ('address = "10.77.0.22"', 'address = "10.77.0.22"\nfailure_domain = "a"'),
            ('address = "10.77.0.23"', 'address = "10.77.0.23"\nfailure_domain = "b"'),
        ),
    ),
    Case(
        "one balancer for a VIP",
        "network.vip",
        "one balancer",
        f"{VIP} # here",
        VIP,
        more=((LB2, LB2.replace("balancer", "application")),),
    ),
    Case(
        "no balancer",
        "hosts",
        "no host has the role balancer",
        'address = "10.77.0.11"\nroles = ["application"]',
        'address = "10.77.0.11"\nroles = ["balancer"]',
        more=((LB2, LB2.replace("balancer", "application")),),
    ),
    Case("priorities equal", "hosts[1].priority", "priority 254 both", f"{LB2}\npriority = 254 # here", LB2),
)

NETWORK = (
    Case(
        "loopback subnet",
        "network.subnet",
        "several hosts can share",
        'subnet = "127.0.0.0/8" # here',
        SUBNET,
    ),
    Case("tiny subnet", "network.subnet", "too few", 'subnet = "10.77.0.0/30" # here', SUBNET),
    Case("vast subnet", "network.subnet", "too many", 'subnet = "8.0.0.0/6" # here', SUBNET),
    Case("IPv6 VIP", "network.vip", "of one family", 'vip = "fd00::100" # here', VIP),
    Case("tiny subnet of IPv6", "network.subnet", "too few", 'subnet = "fd00:77::/126" # here', SUBNET),
    Case("vast subnet of IPv6", "network.subnet", "too many", 'subnet = "fd00::/16" # here', SUBNET),
    Case("link-local subnet", "network.subnet", "link-local", 'subnet = "fe80::/64" # here', SUBNET),
    Case("gateway of the other family", "network.gateway", "router", f'{VIP}\ngateway = "fe80::1" # here', VIP),
    Case(
        "site of the other family",
        "network.other_subnets[0]",
        "of one family",
        f'{VIP}\nother_subnets = ["fd00:88::/64"] # here',
        VIP,
    ),
    Case(
        "twin of the same family",
        "network.twin_vips[0]",
        "as the VIPs are",
        f'{VIP}\ntwin_vips = ["10.77.0.101/24"] # here',
        VIP,
    ),
    Case(
        "more twins than VIPs",
        "network.twin_vips",
        "1 VIPs and 2 twins",
        f'{VIP}\ntwin_vips = ["fd00:77::100/64", "fd00:77::101/64"] # here',
        VIP,
    ),
    Case("twin without a VIP", "network.twin_vips", "0 VIPs", 'twin_vips = ["fd00:77::100/64"] # here', VIP),
    Case(
        "twin on a link",
        "network.twin_vips[0]",
        "clients cannot share",
        f'{VIP}\ntwin_vips = ["fe80::100/64"] # here',
        VIP,
    ),
    Case(
        "twin is the network's",
        "network.twin_vips[0]",
        "network address",
        f'{VIP}\ntwin_vips = ["fd00:77::/64"] # here',
        VIP,
    ),
    Case("VIP outside", "network.vip", "outside network.subnet", 'vip = "10.78.0.100" # here', VIP),
    Case("VIP is a host's", "network.vip", "address of host db1", 'vip = "10.77.0.21" # here', VIP),
    Case("VIP is the gateway's", "network.vip", "gateway", f'{VIP} # here\ngateway = "10.77.0.100"', VIP),
    Case("VIP is the network's", "network.vip", "network address", 'vip = "10.77.0.0" # here', VIP),
    Case("VIP is broadcast", "network.vip", "broadcast", 'vip = "10.77.0.255" # here', VIP),
    Case("VIP twice", "network.more_vips[0]", "listed twice", f'{VIP}\nmore_vips = ["10.77.0.100"] # here', VIP),
    Case("VIP without a first", "network.more_vips", "no first one", 'more_vips = ["10.77.0.100"] # here', VIP),
    Case(
        "further VIP outside",
        "network.more_vips[0]",
        "outside network.subnet",
        f'{VIP}\nmore_vips = ["10.78.0.101"] # here',
        VIP,
    ),
    Case(
        "further VIP is a host's",
        "network.more_vips[0]",
        "address of host db1",
        f'{VIP}\nmore_vips = ["10.77.0.21"] # here',
        VIP,
    ),
    Case(
        "further VIP is the gateway's",
        "network.more_vips[0]",
        "gateway",
        f'{VIP}\nmore_vips = ["10.77.0.101"] # here\ngateway = "10.77.0.101"',
        VIP,
    ),
    Case(
        "further VIP is IPv6",
        "network.more_vips[0]",
        "of one family",
        f'{VIP}\nmore_vips = ["fd00::101"] # here',
        VIP,
    ),
    Case(
        "more VIPs than balancers",
        "network.more_vips",
        "3 VIPs and 2 balancers",
        f'{VIP}\nmore_vips = ["10.77.0.101", "10.77.0.102"] # here',
        VIP,
    ),
    Case(
        "identity of a further VIP taken",
        "network.more_vips[0]",
        "would be 52",
        f'{VIP}\nmore_vips = ["10.77.0.101"] # here\ntaken_router_ids = [52]',
        VIP,
    ),
    Case(
        "two VIPs of one identity",
        "network.more_vips[0]",
        "multiple of 255",
        'vip = "10.77.0.100"\nmore_vips = ["10.77.1.99"] # here',
        VIP,
        more=(('subnet = "10.77.0.0/24"', 'subnet = "10.77.0.0/16"'),),
    ),
    Case(
        "name that is none",
        "network.dns_names[0]",
        "no name that a certificate",
        f'{VIP}\ndns_names = ["DB_1.example.com."] # here',
        VIP,
    ),
    Case("gateway outside", "network.gateway", "router", f'{VIP}\ngateway = "10.78.0.1" # here', VIP),
    Case(
        "identity taken",
        "network.virtual_router_id",
        "fight",
        f"{VIP}\nvirtual_router_id = 7 # here\ntaken_router_ids = [7]",
        VIP,
    ),
    Case("loopback interface", "network.interface", "loopback", f'{VIP}\ninterface = "lo" # here', VIP),
)

APP = '[[users]]\nname = "app"\n'
SERVERS = (
    *(
        Case(
            f"managed {name}",
            f"postgresql.settings.{name}",
            "is managed",
            f'[postgresql.settings]\n{name} = "x" # here',
        )
        for name in (
            "synchronous_standby_names",
            "primary_conninfo",
            "wal_level",
            "fsync",
            "full_page_writes",
            "listen_addresses",
            "archive_command",
            "hba_file",
            "include",
        )
    ),
    Case(
        "quote in a setting",
        "postgresql.settings.work_mem",
        "quote",
        '[postgresql.settings]\nwork_mem = "1MB\' #" # here',
    ),
    Case(
        "relative data directory",
        "postgresql.data_directory",
        "no absolute path",
        '[postgresql]\ndata_directory = "pg/17" # here',
    ),
    Case(
        "escaping data directory",
        "postgresql.data_directory",
        "no absolute path",
        '[postgresql]\ndata_directory = "/srv/../etc/x" # here',
    ),
    Case(
        "system's data directory",
        "postgresql.data_directory",
        "belongs to the system",
        '[postgresql]\ndata_directory = "/etc/postgresql" # here',
    ),
    Case(
        "everybody's data directory",
        "postgresql.data_directory",
        "belongs to the system",
        '[postgresql]\ndata_directory = "/var/lib/postgresql" # here',
    ),
    Case("few WAL senders", "postgresql.max_wal_senders", "too few", "[postgresql]\nmax_wal_senders = 3 # here"),
    Case(
        "few slots",
        "postgresql.max_replication_slots",
        "too few",
        "[postgresql]\nmax_replication_slots = 4 # here",
        more=(
            (
                "",
                "".join(
                    f'[[hosts]]\nname = "d{n}"\naddress = "10.77.0.{30 + n}"\nroles = ["database"]\n' for n in range(2)
                ),
            ),
        ),
    ),
    Case(
        "all reserved",
        "postgresql.reserved_connections",
        "leaves none",
        "[postgresql]\nreserved_connections = 100 # here\nmax_connections = 100",
        more=(("", "[pooling]\nsize = 1\nreserve = 0"),),
    ),
    Case("user twice", "users[1].name", "users[0]", f'{APP}[[users]]\nname = "app" # here'),
    Case("reserved user", "users[1].name", "reserved", f'{APP}[[users]]\nname = "replicator" # here'),
    Case("system's user", "users[1].name", "reserved", f'{APP}[[users]]\nname = "pg_app" # here'),
    Case(
        "database twice",
        "databases[1].name",
        "databases[0]",
        '[[databases]]\nname = "a"\nowner = "app"\n[[databases]]\nname = "a" # here\nowner = "app"',
    ),
    Case(
        "reserved database", "databases[0].name", "reserved", '[[databases]]\nname = "pgbouncer" # here\nowner = "app"'
    ),
    Case("owner unknown", "databases[0].owner", "none of the users", '[[databases]]\nname = "a"\nowner = "b" # here'),
    Case("too many must confirm", "replication.count", "more than the 2 standbys", "[replication]\ncount = 3 # here"),
    Case(
        "quorum on Debian 12",
        "replication.mode",
        "needs Patroni 4",
        '[replication]\nmode = "quorum" # here',
        more=(("", "[postgresql]\nversion = 15"),),
    ),
)

TRAFFIC = (
    Case("same port twice", "balancing.read_port", "balancing.write_port", "[balancing]\nread_port = 5000 # here"),
    Case(
        "sshd's port",
        "orchestration.rest_port",
        "sshd's port",
        "[orchestration]\nrest_port = 2022 # here\n[ssh]\nport = 2022",
    ),
    Case(
        "port clash on shared hosts",
        "pooling.write_port",
        "postgresql.port",
        "[pooling]\nwrite_port = 5432 # here",
        more=(
            (LB2, LB2.replace('"balancer"]', '"balancer", "database"]')),
            ("", "[postgresql.settings]\nwork_mem = 64"),
        ),
    ),
    Case("privileged port", "postgresql.port", "below 1024", "[postgresql]\nport = 543 # here"),
    Case("pools too large", "pooling.size", "the server has 197", "[pooling]\nsize = 100 # here"),
    Case(
        "pool of one database too large",
        "pooling.size",
        "the server has 197",
        '[[databases]]\nname = "a"\nowner = "app"\npool_size = 200',
    ),
    Case(
        "listen in a transaction pool",
        "pooling.features[0]",
        "needs one server session",
        '[pooling]\nfeatures = ["listen"] # here',
    ),
    Case("HAProxy's files", "balancing.max_connections", "open files", "[balancing]\nmax_connections = 50000 # here"),
    Case("PgBouncer's files", "pooling.max_clients", "open files", "[pooling]\nmax_clients = 60000 # here"),
)

TIMINGS = (
    Case("ttl below the floor", "timings.ttl", "floor of 20", "[timings]\nttl = 19 # here"),
    Case("retry below the floor", "timings.retry_timeout", "floor of 3", "[timings]\nretry_timeout = 2 # here"),
    Case(
        "lock shorter than retries",
        "timings.ttl",
        "loop_wait + 2 x retry_timeout = 21",
        "[timings]\nttl = 20 # here\nretry_timeout = 10",
    ),
    Case("etcd elects too soon", "timings.etcd_election", "at least 0.1", "[timings]\netcd_election = 0.05 # here"),
    Case("etcd elects too late", "timings.etcd_election", "at most 50", "[timings]\netcd_election = 51 # here"),
    Case(
        "check too often",
        "timings.check_interval",
        "shorter than 0.01",
        "[timings]\ncheck_interval = 0.001 # here\ncheck_fast_interval = 0.001",
    ),
    Case(
        "advert between ticks",
        "timings.advert_interval",
        "no multiple of 0.01",
        "[timings]\nadvert_interval = 0.125 # here",
    ),
    Case(
        "fast checks slower",
        "timings.check_fast_interval",
        "longer than the usual interval",
        "[timings]\ncheck_fast_interval = 0.5 # here",
    ),
    Case(
        "connecting outlasts",
        "timings.server_connect_timeout",
        "outlasts the outage",
        "[timings]\nserver_connect_timeout = 30 # here",
    ),
    Case(
        "retrying outlasts",
        "timings.server_login_retry",
        "outlasts the outage",
        "[timings]\nserver_login_retry = 30 # here",
    ),
)

AGENT = "[orchestration]\nagent = true"
NO_AGENT = "[orchestration]\nagent = false"
AGENTS = (
    Case(
        "agents beside an old Patroni",
        "orchestration.agent",
        "would overwrite its successor's lock",
        f"{AGENT} # here",
        more=(("", "[postgresql]\nversion = 15"),),
    ),
    Case(
        "too few agents",
        "orchestration.agent",
        "is no majority",
        f"{AGENT} # here",
        more=(
            ('name = "lb1"\naddress = "10.77.0.11"\nroles = ["balancer"]', LB1_APPLICATION),
            (LB2, LB2.replace("balancer", "application")),
            (DB3, DB3.replace('"database", "dcs"', '"application"')),
        ),
    ),
    Case(
        "detection below four heartbeats",
        "timings.detection_time",
        "4 heartbeats of 0.05 = 0.2 seconds",
        "[timings]\ndetection_time = 0.19 # here",
    ),
    Case(
        "detection after the lock",
        "timings.detection_time",
        "is not shorter than ttl, 20",
        "[timings]\ndetection_time = 20 # here",
        more=(("", AGENT),),
    ),
    Case(
        "detection after the lock, with agents by default",
        "timings.detection_time",
        "is not shorter than ttl, 20",
        "[timings]\ndetection_time = 20 # here",
    ),
    Case("heartbeats too often", "timings.heartbeat_interval", "0.01", "[timings]\nheartbeat_interval = 0.005 # here"),
    Case(
        "agents' port twice",
        "orchestration.health_port",
        "orchestration.heartbeat_port",
        f"{AGENT}\nhealth_port = 7790 # here",
    ),
    Case(
        "agents' port is a pooler's",
        "orchestration.health_port",
        "pooling.write_port's port too, on lb1, lb2",
        f"{AGENT}\nhealth_port = 6432 # here",
    ),
    Case(
        "agents' port is cut by their fences",
        "orchestration.health_port",
        "pooling.synchronous_port's port too, on lb1, lb2, db1, db2, db3",
        f"{AGENT}\nhealth_port = 6434 # here",
    ),
    Case(
        "agents' privileged port", "orchestration.health_port", "below 1024", "[orchestration]\nhealth_port = 79 # here"
    ),
    Case("agents' role", "users[0].name", "reserved", '[[users]]\nname = "pgbaton_agent" # here'),
)

ACCESS = (
    Case(
        "clients of a family without an address",
        "security.client_networks[1]",
        "no address of IPv6",
        '[security]\nclient_networks = ["10.77.0.0/24", "fd00:77::/64"] # here',
    ),
    Case(
        "clients from everywhere",
        "security.client_networks[0]",
        "everywhere",
        '[security]\nclient_networks = ["0.0.0.0/0"] # here',
    ),
    Case(
        "twin in a network of its own",
        "network.twin_vips[0]",
        "no client of IPv6 in",
        f'{VIP}\ntwin_vips = ["fd00:77::100/128"] # here',
        VIP,
    ),
    Case(
        "clients from loopback",
        "security.client_networks[0]",
        "no network that clients",
        '[security]\nclient_networks = ["127.0.0.0/8"] # here',
    ),
    Case(
        "operators from multicast",
        "security.operator_networks[0]",
        "locked out",
        '[security]\noperator_networks = ["224.0.0.0/4"] # here',
    ),
    Case(
        "application kept out",
        "hosts[5].address",
        "keep app1 out",
        '[security]\nclient_networks = ["10.1.0.0/16"]\n\n[[hosts]]\nname = "app1"\n'
        'address = "10.77.0.50" # here\nroles = ["application"]',
    ),
    Case(
        "destination that is an option",
        "hosts[1].ssh",
        "would be an option",
        f'{LB2}\nssh = "-oProxyCommand=x" # here',
        LB2,
    ),
    Case("relative identity", "ssh.identity_file", "no absolute path", '[ssh]\nidentity_file = "id_ed25519" # here'),
    Case(
        "escaping configuration", "ssh.config_file", "no absolute path", '[ssh]\nconfig_file = "/home/../etc/x" # here'
    ),
)

APP = '[[users]]\nname = "app"\n'
OWNED = '[[databases]]\nname = "app"\nowner = "app"\n'
POOLING = (
    Case(
        "listen where one user's pools are by transaction",
        "pooling.features[0]",
        "by transaction for app in app",
        f'{APP}pool_mode = "transaction"\n[pooling]\nmode = "session"\nfeatures = ["listen"] # here',
    ),
    Case(
        "locks in a database pooled by transaction",
        "databases[0].features[0]",
        "needs one server session",
        f'{OWNED}features = ["advisory-locks"] # here',
    ),
    Case(
        "processes on Debian 12",
        "pooling.processes",
        "cancel request",
        "[pooling]\nprocesses = 2 # here\n[postgresql]\nversion = 15",
    ),
    Case("no processes", "pooling.processes", "at least 1", "[pooling]\nprocesses = 0 # here"),
    Case(
        "a pool too small to share",
        "pooling.size",
        "too few for 4 processes",
        "[pooling]\nprocesses = 4\nsize = 3 # here",
    ),
    Case(
        "a database's limit too small to share",
        "databases[0].max_db_connections",
        "needs 2 connections",
        f"[pooling]\nprocesses = 2\n{OWNED}max_db_connections = 3 # here",
    ),
    Case(
        "a user's limit too small to share",
        "users[0].max_user_connections",
        "needs one connection",
        f"[pooling]\nprocesses = 2\n{APP}max_user_connections = 1 # here",
    ),
    Case(
        "a user's pools on Debian 12",
        "users[0].pool_mode",
        "needs PgBouncer 1.23",
        f'{APP}pool_mode = "session" # here\n[postgresql]\nversion = 15',
    ),
    Case(
        "unknown mode of one database",
        "databases[0].pool_mode",
        "must be 'session'",
        f'{OWNED}pool_mode = "query" # here',
    ),
)
INSIDE = (
    Case("a role that is none", "users[0].roles[0]", "predefined", f'{APP}roles = ["pg_read_all"] # here'),
    Case("a service's role", "users[0].roles[0]", "own services", f'{APP}roles = ["replicator"] # here'),
    Case("a role twice", "users[0].roles[1]", "roles[0] too", f'{APP}roles = ["pg_monitor", "pg_monitor"] # here'),
    Case("a member of itself", "users[0].roles[0]", "a circle", f'{APP}roles = ["app"] # here'),
    Case(
        "members of each other",
        "users[1].roles[0]",
        "a circle",
        f'{APP}roles = ["other"]\n[[users]]\nname = "other"\nroles = ["app"] # here',
    ),
    Case("an encoding for UTF8's locale", "databases[0].encoding", "UTF8's", f'{OWNED}encoding = "LATIN1" # here'),
    Case("a locale that is none", "databases[0].locale", "no name of a locale", f'{OWNED}locale = "de DE" # here'),
    Case(
        "an extension twice",
        "databases[0].extensions[1]",
        "extensions[0] too",
        f'{OWNED}extensions = ["citext", "citext"] # here',
    ),
    Case(
        "an extension that is a statement",
        "databases[0].extensions[0]",
        "no name of an extension",
        f'{OWNED}extensions = ["a; drop"] # here',
    ),
)

TABLESPACE = '[[tablespaces]]\nname = "fast"\nlocation = "/srv/fast/orders"\nowner = "app"'

DIRECTORIES = (
    Case(
        "relative WAL directory",
        "postgresql.wal_directory",
        "no absolute path",
        '[postgresql]\nwal_directory = "wal/main" # here',
    ),
    Case(
        "WAL directory below the root",
        "postgresql.wal_directory",
        "make /srv the server's own",
        '[postgresql]\nwal_directory = "/srv/wal" # here',
    ),
    Case(
        "WAL in the data directory",
        "postgresql.wal_directory",
        "is inside postgresql.data_directory",
        '[postgresql]\nwal_directory = "/var/lib/postgresql/17/trial/wal" # here',
    ),
    Case(
        "data in the WAL directory",
        "postgresql.wal_directory",
        "holds postgresql.data_directory",
        '[postgresql]\nwal_directory = "/var/lib/postgresql/17" # here',
    ),
    Case(
        "system's tablespace",
        "tablespaces[0].location",
        "belongs to the system",
        TABLESPACE.replace('/srv/fast/orders"', '/etc/fast" # here'),
    ),
    Case(
        "relative tablespace",
        "tablespaces[0].location",
        "no absolute path",
        TABLESPACE.replace('/srv/fast/orders"', 'fast" # here'),
    ),
    Case(
        "tablespace in the data directory",
        "tablespaces[0].location",
        "is inside postgresql.data_directory",
        TABLESPACE.replace('/srv/fast/orders"', '/srv/pg/main/fast" # here'),
        more=(("", '[postgresql]\ndata_directory = "/srv/pg/main"'),),
    ),
    Case(
        "tablespace where WAL is",
        "tablespaces[0].location",
        "is the same as postgresql.wal_directory",
        TABLESPACE.replace('orders"', 'orders" # here'),
        more=(("", '[postgresql]\nwal_directory = "/srv/fast/orders"'),),
    ),
    Case(
        "two tablespaces in one place",
        "tablespaces[1].location",
        "is the same as that of tablespaces[0]",
        f'{TABLESPACE}\n\n[[tablespaces]]\nname = "slow"\nlocation = "/srv/fast/orders" # here\nowner = "app"',
    ),
    Case(
        "tablespace's name twice",
        "tablespaces[1].name",
        "tablespaces[0]",
        f'{TABLESPACE}\n\n[[tablespaces]]\nname = "fast" # here\nlocation = "/srv/slow/orders"\nowner = "app"',
    ),
    Case(
        "reserved tablespace",
        "tablespaces[0].name",
        "is reserved",
        TABLESPACE.replace('"fast"', '"pg_fast" # here'),
    ),
    Case(
        "tablespace of nobody",
        "tablespaces[0].owner",
        "none of the users",
        TABLESPACE.replace('"app"', '"orders" # here'),
    ),
)

OTHER = "10.88.0.0/24"
SITES = f'{VIP}\nother_subnets = ["{OTHER}"]'
FAR = '[[hosts]]\nname = "far"\naddress = "10.88.0.21"\nroles = ["database"]\nfailover = false'

STANDBYS = (
    Case(
        "in no site",
        "hosts[5].address",
        "none of network.other_subnets",
        FAR.replace('.88.0.21"', '.99.0.1" # here'),
        more=((VIP, SITES),),
    ),
    Case(
        "network of another site",
        "hosts[5].address",
        f"network address of {OTHER}",
        FAR.replace('.21"', '.0" # here'),
        more=((VIP, SITES),),
    ),
    Case(
        "site within the subnet",
        "network.other_subnets[0]",
        "overlaps with 10.77.0.0/24",
        f'{VIP}\nother_subnets = ["10.77.0.128/25"] # here',
        VIP,
    ),
    Case(
        "site twice",
        "network.other_subnets[1]",
        f"overlaps with {OTHER}",
        f'{VIP}\nother_subnets = ["{OTHER}", "{OTHER}"] # here',
        VIP,
    ),
    Case(
        "site too small", "network.other_subnets[0]", "too few", f'{VIP}\nother_subnets = ["10.88.0.0/30"] # here', VIP
    ),
    Case(
        "balancer in another site",
        "hosts[1].roles",
        "the VIP can float within one network only",
        LB2.replace("10.77.0.12", "10.88.0.12").replace('["balancer"]', '["balancer"] # here'),
        LB2,
        more=((VIP, SITES),),
    ),
    Case(
        "etcd in another site",
        "hosts[5].roles",
        "must not cost a majority",
        FAR.replace('["database"]', '["database", "dcs"] # here'),
        more=((VIP, SITES), (DB3, DB3.replace(', "dcs"', ""))),
    ),
    Case(
        "leader in another site",
        "hosts[5].failover",
        "cannot be told whether it may lead",
        FAR.replace("failover = false", "failover = true # here"),
        more=((VIP, SITES),),
    ),
    Case(
        "behind nobody",
        "hosts[4].replicate_from",
        "none of the databases",
        f'{DB3}\nsynchronous = false\nreplicate_from = "db9" # here',
        DB3,
    ),
    Case(
        "behind itself",
        "hosts[4].replicate_from",
        "back to itself",
        f'{DB3}\nsynchronous = false\nreplicate_from = "db3" # here',
        DB3,
    ),
    Case(
        "behind, and confirming",
        "hosts[4].replicate_from",
        "can confirm nothing",
        f'{DB3}\nreplicate_from = "db2" # here',
        DB3,
    ),
    Case(
        "more confirmers than have a say",
        "replication.count",
        "more than the 1 standbys",
        "[replication]\ncount = 2 # here",
        more=((DB3, f"{DB3}\nsynchronous = false"),),
    ),
    Case(
        "nobody confirms",
        "replication.count",
        "more than the 0 standbys",
        "[replication]\ncount = 1 # here",
        more=((DB3, f"{DB3}\nsynchronous = false"), (DB2, f"{DB2}\nsynchronous = false")),
    ),
    Case(
        "nobody takes reads",
        "hosts[2].reads",
        "no standby for reads",
        f"{DB1}\nreads = false # here",
        DB1,
        more=((DB3, f"{DB3}\nreads = false"), (DB2, f"{DB2}\nreads = false")),
    ),
    Case(
        "port of etcd's metrics",
        "balancing.write_port",
        "etcd's own metrics port",
        "[balancing]\nwrite_port = 2381 # here",
        more=((DB3, DB3.replace(', "dcs"', "")), (LB2, LB2.replace('["balancer"]', '["balancer", "dcs"]'))),
    ),
)

REPLICATION = f'{VIP}\nreplication_subnet = "10.78.0.0/24"'
#: All databases but the third in the network for replication, and the network itself.
TWO_APART = (
    ('address = "10.77.0.21"', 'address = "10.77.0.21"\nreplication_address = "10.78.0.21"'),
    ('address = "10.77.0.22"', 'address = "10.77.0.22"\nreplication_address = "10.78.0.22"'),
)
APART = (*TWO_APART, (VIP, REPLICATION))
#: The same, where that network has IPv6.
IN_IPV6 = (("10.78.0.0/24", "fd00:78::/64"), ("10.78.0.", "fd00:78::"))
APART6 = tuple((old, new.replace(*IN_IPV6[0]).replace(*IN_IPV6[1])) for old, new in APART)


def third(address: str) -> str:
    """Return the third database with a replication address."""
    return DB3.replace('.23"', f'.23"\nreplication_address = "{address}" # here')


REPLICATION_NETWORK = (
    Case(
        "replication within the subnet",
        "network.replication_subnet",
        "overlaps with 10.77.0.0/24",
        REPLICATION.replace('10.78.0.0/24"', '10.77.0.0/24" # here'),
        VIP,
    ),
    Case(
        "replication in another site's network",
        "network.replication_subnet",
        f"overlaps with {OTHER}",
        SITES + '\nreplication_subnet = "10.88.0.0/16" # here',
        VIP,
    ),
    Case(
        "replication in the network of twins",
        "network.replication_subnet",
        "overlaps with fd00:78::/64",
        f'{VIP}\ntwin_vips = ["fd00:78::100/64"]\nreplication_subnet = "fd00:78::/56" # here',
        VIP,
    ),
    Case(
        "network for replication too small",
        "network.replication_subnet",
        "too few",
        REPLICATION.replace('0/24"', '0/30" # here'),
        VIP,
    ),
    Case(
        "network for replication on a link",
        "network.replication_subnet",
        "link-local",
        REPLICATION.replace('10.78.0.0/24"', 'fe80::/64" # here'),
        VIP,
    ),
    Case(
        "replication by the clients' interface",
        "network.replication_interface",
        "carries the hosts' addresses too",
        f'{REPLICATION}\nreplication_interface = "eth0" # here',
        VIP,
    ),
    Case(
        "replication by loopback",
        "network.replication_interface",
        "loopback",
        f'{REPLICATION}\nreplication_interface = "lo" # here',
        VIP,
    ),
    Case(
        "replication address in no network",
        "hosts[4].replication_address",
        "there is no network.replication_subnet",
        third("10.78.0.23"),
        DB3,
    ),
    Case("one database left out", "hosts[4]", "db3 is a database without", DB3, DB3, more=APART),
    Case(
        "replication address elsewhere",
        "hosts[4].replication_address",
        "outside network.replication_subnet",
        third("10.79.0.23"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address among clients",
        "hosts[4].replication_address",
        "the network that clients come by",
        third("10.77.0.33"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address twice",
        "hosts[4].replication_address",
        "replication address of db1 too",
        third("10.78.0.21"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address is the network's",
        "hosts[4].replication_address",
        "network address of 10.78.0.0/24",
        third("10.78.0.0"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address is broadcast",
        "hosts[4].replication_address",
        "broadcast address of 10.78.0.0/24",
        third("10.78.0.255"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address of the other family",
        "hosts[4].replication_address",
        "outside network.replication_subnet, 10.78.0.0/24",
        third("fd00:78::23"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address on a link",
        "hosts[4].replication_address",
        "link-local",
        third("fd00:78::23%eth1"),
        DB3,
        more=APART6,
    ),
    Case(
        "mapped replication address",
        "hosts[4].replication_address",
        "clothes",
        third("::ffff:10.78.0.23"),
        DB3,
        more=APART,
    ),
    Case(
        "replication address is the network's, of IPv6",
        "hosts[4].replication_address",
        "network address of fd00:78::/64",
        third("fd00:78::"),
        DB3,
        more=APART6,
    ),
)

READS = (
    Case(
        "fresh reads of nobody",
        "balancing.synchronous_port",
        "in asynchronous mode there are none",
        '[balancing]\nsynchronous_port = 5002 # here\n[replication]\nmode = "asynchronous"',
    ),
    Case(
        "fresh reads of a quorum",
        "balancing.synchronous_port",
        "any 1 of 2 standbys",
        '[balancing]\nsynchronous_port = 5002 # here\n[replication]\nmode = "quorum"',
    ),
    Case(
        "applied by nobody",
        "replication.apply",
        "no standby confirms",
        '[replication]\nmode = "asynchronous"\napply = true # here',
    ),
    Case(
        "port of fresh reads taken",
        "balancing.synchronous_port",
        "balancing.write_port's port too",
        "[balancing]\nsynchronous_port = 5000 # here",
    ),
)

MANUAL = '[orchestration]\nkind = "manual"'
#: Databases without etcd, as a cluster that a person fails over has them.
NO_VOTES = tuple(
    (
        f'name = "db{number}"\naddress = "10.77.0.2{number}"\nroles = ["database", "dcs"]',
        f'name = "db{number}"\naddress = "10.77.0.2{number}"\nroles = ["database"]',
    )
    for number in (1, 2, 3)
)
HAND = (
    Case(
        "vote in a manual cluster",
        "hosts[4].roles",
        "nobody elects a primary",
        DB3.replace('"dcs"]', '"dcs"] # here'),
        DB3,
        (*NO_VOTES[:2], ("", MANUAL)),
    ),
    Case(
        "agents that are asked and are not there",
        "balancing.check",
        "no host has one",
        '[balancing]\ncheck = "agent" # here',
        more=(*NO_VOTES, ("", MANUAL)),
    ),
    Case(
        "agents of another site that are asked",
        "balancing.check",
        "hosts of other sites have none: far",
        '[balancing]\ncheck = "agent" # here',
        more=((VIP, SITES), *NO_VOTES, ("", f"{MANUAL}\nagent = true"), ("", FAR)),
    ),
    Case(
        "first primary that is no database",
        "orchestration.primary",
        "none of the databases",
        f'{MANUAL}\nprimary = "lb1" # here',
        more=NO_VOTES,
    ),
    Case(
        "first primary that may not lead",
        "orchestration.primary",
        "may never be primary",
        f'{MANUAL}\nprimary = "db3" # here',
        more=(*NO_VOTES[:2], (DB3, f"{NO_VOTES[2][1]}\nfailover = false")),
    ),
    Case(
        "question that an old server cannot be asked",
        "balancing.check",
        "needs PostgreSQL 17",
        '[balancing]\ncheck = "query" # here',
        more=(*NO_VOTES, ("", MANUAL), ("", "[postgresql]\nversion = 15")),
    ),
    Case(
        "fresh reads without Patroni",
        "balancing.synchronous_port",
        "no standby knows by itself",
        "[balancing]\nsynchronous_port = 5002 # here",
        more=(*NO_VOTES, ("", MANUAL)),
    ),
    Case(
        "standby behind another without Patroni",
        "hosts[4].replicate_from",
        "every standby receives from the primary",
        f'{NO_VOTES[2][1]}\nsynchronous = false\nreplicate_from = "db2" # here',
        DB3,
        (*NO_VOTES[:2], ("", MANUAL)),
    ),
    Case(
        "leader in another site without Patroni",
        "hosts[5].failover",
        "where no balancer is",
        FAR.replace("failover = false", "failover = true # here"),
        more=((VIP, SITES), *NO_VOTES, ("", MANUAL)),
    ),
    Case("unknown kind", "orchestration.kind", "must be 'patroni'", '[orchestration]\nkind = "repmgr" # here'),
)

#: An etcd elsewhere that is all right.
ETCD_FILES = 'ca_file = "/etc/ca.crt"\ncertificate_file = "/etc/us.crt"\nkey_file = "/etc/us.key"'
ETCD_ENDPOINTS = 'endpoints = ["https://10.9.0.1:2379", "https://etcd2.example.org:2379"]'
ETCD = f"[etcd]\n{ETCD_ENDPOINTS}\n{ETCD_FILES}"

FOREIGN = (
    Case(
        "two etcds",
        "hosts[4].roles",
        "names another etcd",
        ETCD,
        more=(*NO_VOTES[:2], (DB3, DB3.replace('"dcs"]', '"dcs"] # here'))),
    ),
    Case(
        "etcd in a manual cluster",
        "etcd.endpoints",
        "nobody asks one",
        ETCD.replace('2379"]', '2379"] # here'),
        more=(*NO_VOTES, ("", MANUAL)),
    ),
    Case(
        "files for no etcd",
        "etcd.ca_file",
        "etcd.endpoints names none",
        '[etcd]\nca_file = "/etc/ca.crt" # here',
    ),
    Case(
        "endpoint without a scheme", "etcd.endpoints[0]", "no endpoint", '[etcd]\nendpoints = ["10.9.0.1:2379"] # here'
    ),
    Case(
        "endpoint with a path",
        "etcd.endpoints[0]",
        "no endpoint",
        '[etcd]\nendpoints = ["https://10.9.0.1:2379/v3"] # here',
    ),
    Case(
        "endpoint without brackets",
        "etcd.endpoints[0]",
        "no endpoint",
        '[etcd]\nendpoints = ["https://fd00:9::1:2379"] # here',
    ),
    Case(
        "brackets without an address",
        "etcd.endpoints[0]",
        "no endpoint",
        '[etcd]\nendpoints = ["https://[fd00:9::1::2]:2379"] # here',
    ),
    Case(
        "endpoint spelled in two ways",
        "etcd.endpoints[1]",
        "is etcd.endpoints[0] too",
        f'[etcd]\nendpoints = ["https://[fd00:9::1]:2379", "https://[FD00:9:0::1]:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "endpoint in clothes",
        "etcd.endpoints[1]",
        "IPv4 in IPv6's clothes",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "https://[::ffff:10.77.0.21]:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "etcd on a link",
        "etcd.endpoints[1]",
        "another machine for every host",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "https://[fe80::1]:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "endpoint named twice",
        "etcd.endpoints[1]",
        "is etcd.endpoints[0] too",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "https://10.9.0.1:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "one endpoint without TLS",
        "etcd.endpoints[1]",
        "is asked otherwise",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "http://10.9.0.2:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "no TLS at all",
        "etcd.endpoints[0]",
        "has no TLS",
        '[etcd]\nendpoints = ["http://10.9.0.1:2379", "http://10.9.0.2:2379"] # here',
        more=NO_VOTES,
    ),
    Case(
        "authority for no TLS",
        "etcd.ca_file",
        "has no effect",
        '[etcd]\nplain_http = true\nendpoints = ["http://10.9.0.1:2379"]\nca_file = "/etc/ca.crt" # here',
        more=NO_VOTES,
    ),
    Case(
        "etcd that is not verified",
        "etcd.endpoints",
        "by which authority's certificate",
        f'[etcd]\n{ETCD_ENDPOINTS} # here\nuser = "pgbaton"',
        more=NO_VOTES,
    ),
    Case(
        "certificate without its key",
        "etcd.certificate_file",
        "of no use without etcd.key_file",
        f'[etcd]\n{ETCD_ENDPOINTS}\nca_file = "/etc/ca.crt"\ncertificate_file = "/etc/us.crt" # here',
        more=NO_VOTES,
    ),
    Case(
        "password of nobody",
        "etcd.password_file",
        "etcd.user is not set",
        f'{ETCD}\npassword_file = "/etc/password" # here',
        more=NO_VOTES,
    ),
    Case(
        "etcd on a host of the cluster",
        "etcd.endpoints[1]",
        "is db1, which this file deploys",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "https://10.77.0.21:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "etcd at a twin",
        "etcd.endpoints[1]",
        "is a VIP, which this file deploys",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "https://[fd00:77:0::100]:2379"] # here\n{ETCD_FILES}',
        more=(*NO_VOTES, (VIP, f'{VIP}\ntwin_vips = ["fd00:77::100/64"]')),
    ),
    Case(
        "etcd at another VIP",
        "etcd.endpoints[1]",
        "is a VIP, which this file deploys",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379", "https://10.77.0.101:2379"] # here\n{ETCD_FILES}',
        more=(*NO_VOTES, (VIP, f'{VIP}\nmore_vips = ["10.77.0.101"]')),
    ),
    Case(
        "etcd on the host that asks",
        "etcd.endpoints[0]",
        "another machine for every host",
        f'[etcd]\nendpoints = ["https://127.0.0.1:2379", "https://10.9.0.1:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case("namespace with an empty part", "etcd.namespace", "no namespace", '[etcd]\nnamespace = "/pg//one" # here'),
    Case("file without a root", "etcd.ca_file", "no absolute path", '[etcd]\nca_file = "ca.crt" # here'),
    Case("user with a blank", "etcd.user", "no user's name", '[etcd]\nuser = "our team" # here'),
    Case("password in the file", "etcd.password", "do not belong", '[etcd]\npassword = "correct horse" # here'),
)

DOUBTED_FOREIGN = (
    Case(
        "accepted for nothing",
        "etcd.plain_http",
        "all endpoints have TLS",
        f"{ETCD}\nplain_http = true # here",
        more=NO_VOTES,
    ),
    Case(
        "etcd that anybody may ask",
        "etcd.endpoints",
        "commands the databases",
        f'[etcd]\n{ETCD_ENDPOINTS} # here\nca_file = "/etc/ca.crt"',
        more=NO_VOTES,
    ),
    Case(
        "a single endpoint",
        "etcd.endpoints",
        "is the only one",
        f'[etcd]\nendpoints = ["https://10.9.0.1:2379"] # here\n{ETCD_FILES}',
        more=NO_VOTES,
    ),
    Case(
        "election of an etcd elsewhere",
        "timings.etcd_election",
        "that pgbaton does not configure",
        "[timings]\netcd_election = 2.0 # here",
        more=(*NO_VOTES, ("", ETCD)),
    ),
    Case(
        "port of an etcd elsewhere",
        "orchestration.etcd_client_port",
        "that pgbaton does not configure",
        "[orchestration]\netcd_client_port = 12379 # here",
        more=(*NO_VOTES, ("", ETCD)),
    ),
)

REFUSED = (
    *STRUCTURE,
    *ELSEWHERE,
    *HOSTS,
    *NETWORK,
    *SERVERS,
    *TRAFFIC,
    *TIMINGS,
    *AGENTS,
    *HAND,
    *FOREIGN,
    *ACCESS,
    *POOLING,
    *INSIDE,
    *DIRECTORIES,
    *STANDBYS,
    *REPLICATION_NETWORK,
    *READS,
)

DOUBTED = (
    *DOUBTED_FOREIGN,
    Case(
        "twin whose clients are kept out",
        "network.twin_vips[0]",
        "lists no network of IPv6",
        f'{VIP}\ntwin_vips = ["fd00:77::100/64"] # here',
        VIP,
        more=(("", '\n[security]\nclient_networks = ["10.77.0.0/24"]\n'),),
    ),
    Case(
        "fresh reads not applied",
        "balancing.synchronous_port",
        "may show it some moments later",
        "[balancing]\nsynchronous_port = 5002 # here",
    ),
    Case(
        "weight of no reader",
        "hosts[4].read_weight",
        "takes no reads",
        f"{DB3}\nreads = false\nread_weight = 5 # here",
        DB3,
    ),
    Case(
        "pooler elsewhere",
        "hosts[4].roles",
        "pooling.placement is balancer",
        DB3.replace('"dcs"]', '"dcs", "pooler"] # here'),
        DB3,
    ),
    Case(
        "one pooler",
        "pooling.placement",
        "without it, no client reaches a server",
        DB3.replace('"dcs"]', '"dcs", "pooler"]'),
        DB3,
        more=(("", '[pooling]\nplacement = "pooler" # here'),),
    ),
    Case(
        "lock of a manual cluster",
        "timings.ttl",
        'no effect with orchestration.kind = "manual"',
        "[timings]\nttl = 30 # here",
        more=(*NO_VOTES, ("", MANUAL)),
    ),
    Case(
        "loss that agents are to accept where a person does",
        "replication.accept_loss",
        "a person promotes",
        '[replication]\nmode = "asynchronous"\naccept_loss = true # here',
        more=(*NO_VOTES, ("", f"{MANUAL}\nagent = true")),
    ),
    Case(
        "first primary where Patroni elects",
        "orchestration.primary",
        'no effect with orchestration.kind = "patroni"',
        '[orchestration]\nprimary = "db1" # here',
    ),
    Case("failover of a balancer", "hosts[1].failover", "no database", f"{LB2}\nfailover = false # here", LB2),
    Case("priority of a database", "hosts[4].priority", "no balancer", f"{DB3}\npriority = 9 # here", DB3),
    Case(
        "nine etcd members",
        "hosts",
        "majority",
        "".join(f'[[hosts]]\nname = "e{n}"\naddress = "10.77.0.{30 + n}"\nroles = ["dcs"]\n' for n in range(6)),
    ),
    Case(
        "balancers in one domain",
        "hosts[0].failure_domain",
        "every balancer",
        'address = "10.77.0.11"\nfailure_domain = "a" # here',
        'address = "10.77.0.11"',
        more=((LB2, f'{LB2}\nfailure_domain = "a"'),),
    ),
    Case("no VIP", "network", "no VIP", "", f"{VIP}\n"),
    Case("return of a single VIP", "timings.vip_return", "stays where it is", "[timings]\nvip_return = 5 # here"),
    Case("asynchronous", "replication.mode", "may lose", '[replication]\nmode = "asynchronous" # here'),
    Case(
        "count without effect",
        "replication.count",
        "no effect",
        '[replication]\nmode = "asynchronous"\ncount = 2 # here',
    ),
    Case(
        "strict without a spare",
        "replication.mode",
        "stops all writes",
        '[replication]\nmode = "strict" # here\ncount = 2',
    ),
    Case(
        "limit below the pools",
        "users[0].connection_limit",
        "would see errors",
        '[[users]]\nname = "app"\nconnection_limit = 5 # here',
    ),
    Case("pooling by statement", "pooling.mode", "more than one statement", '[pooling]\nmode = "statement" # here'),
    Case(
        "one database pooled by statement",
        "databases[0].pool_mode",
        "more than one statement",
        f'{OWNED}pool_mode = "statement" # here',
    ),
    Case(
        "processes that nobody watches",
        "pooling.processes",
        "nobody notices",
        f"[pooling]\nprocesses = 2 # here\n{NO_AGENT}",
    ),
    Case(
        "limit of a database below its pools",
        "databases[0].connection_limit",
        "pools and look-ups",
        f"{OWNED}connection_limit = 50 # here",
    ),
    Case("a strong role", "users[0].roles[0]", "root's", f'{APP}roles = ["pg_execute_server_program"] # here'),
    Case(
        "an extension that is not loaded",
        "databases[0].extensions[0]",
        "loads it at its start",
        f'{OWNED}extensions = ["pg_stat_statements"] # here',
    ),
    Case(
        "prepared on Debian 12",
        "pooling.prepared_statements",
        "1.21",
        "[pooling]\nprepared_statements = 10 # here\n[postgresql]\nversion = 15",
    ),
    Case("few clients a pooler", "pooling.max_clients", "which takes 100", "[pooling]\nmax_clients = 100 # here"),
    Case("few heartbeats", "timings.ttl", "4 loops", "[timings]\nttl = 30 # here\nloop_wait = 10"),
    Case(
        "restart in place", "timings.primary_start_timeout", "restart", "[timings]\nprimary_start_timeout = 30 # here"
    ),
    Case("silence too long", "timings.wal_sender_timeout", "stall writes", "[timings]\nwal_sender_timeout = 60 # here"),
    Case("clients give up", "timings.query_wait", "get errors", "[timings]\nquery_wait = 5 # here"),
    Case(
        "detection without agents",
        "timings.detection_time",
        "no host has an agent",
        "[timings]\ndetection_time = 1 # here",
        more=(("", NO_AGENT),),
    ),
    Case(
        "detection where no agent can run",
        "timings.detection_time",
        "no host has an agent",
        "[timings]\ndetection_time = 1 # here",
        more=(("", "[postgresql]\nversion = 15"),),
    ),
    Case(
        "loss accepted without agents",
        "replication.accept_loss",
        "no host has an agent",
        '[replication]\nmode = "asynchronous"\naccept_loss = true # here',
        more=(("", NO_AGENT),),
    ),
    Case(
        "loss accepted where none is possible",
        "replication.accept_loss",
        "no effect: in synchronous mode",
        "[replication]\naccept_loss = true # here",
        more=(("", AGENT),),
    ),
    Case(
        "loss accepted",
        "replication.accept_loss",
        "silent for 0.5 seconds is replaced",
        '[replication]\nmode = "asynchronous"\naccept_loss = true # here',
        more=(("", AGENT),),
    ),
    Case("no firewall", "security.firewall", "reachable for everybody", "[security]\nfirewall = false # here"),
    Case("short certificates", "security.certificate_days", "due at once", "[security]\ncertificate_days = 10 # here"),
    Case(
        "replication address of a balancer",
        "hosts[1].replication_address",
        "no database",
        LB2.replace('.12"', '.12"\nreplication_address = "10.78.0.12" # here'),
        LB2,
        more=(*APART, (DB3, third("10.78.0.23").replace(" # here", ""))),
    ),
    Case(
        "use of a network that is not there",
        "network.use_replication_subnet",
        "there is no network.replication_subnet",
        f"{VIP}\nuse_replication_subnet = false # here",
        VIP,
    ),
    Case("reads of a balancer", "hosts[1].reads", "no database", f"{LB2}\nreads = false # here", LB2),
    Case(
        "confirming without leading",
        "hosts[4].synchronous",
        "no commit may rest on it",
        f"{DB3}\nfailover = false\nsynchronous = true # here",
        DB3,
    ),
    Case(
        "strict beside one without a say",
        "hosts[4].synchronous",
        "db3 too",
        f"{DB3}\nsynchronous = false # here",
        DB3,
        more=(("", '[replication]\nmode = "strict"'),),
    ),
)
