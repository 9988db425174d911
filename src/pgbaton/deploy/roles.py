"""Roles inside the cluster: how they are shown, and what is said to the server for them. Pure, but for new salts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.deploy.databases import quoted
from pgbaton.references import secret
from pgbaton.secrets import scram_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbaton.components.postgres import DatabaseRole
    from pgbaton.deploy.steps import Step
    from pgbaton.secrets import Vault


def described(limit: int, password: str, joined: Sequence[str], *, login: bool = True) -> str:
    """Return a role as it is shown: ``password`` is a reference or a mask."""
    groups = f" IN ROLE {', '.join(joined)}" if joined else ""
    return f"{'LOGIN' if login else 'NOLOGIN'} CONNECTION LIMIT {limit} PASSWORD {password}{groups}"


def role_sql(role: DatabaseRole, vault: Vault, step: Step) -> str:
    """Return the statement that makes a role; a password goes as a verifier, and only where it is another.

    A new verifier has another salt: poolers could open no server connection for clients that logged in before.
    """
    name = f"password/{role.password}"
    password = "" if secret(name) in step.before else f" PASSWORD '{scram_verifier(vault.value(name))}'"
    verb, limit = "CREATE" if step.action == "create" else "ALTER", role.connection_limit
    return f"{verb} ROLE {quoted(role.name)} LOGIN CONNECTION LIMIT {limit}{password};\n"


#: Statements that take a role out of all that it should not be in, whoever put it there; psql carries them out.
LEAVE = """SELECT format('REVOKE %s FROM %s GRANTED BY %s', roleid::regrole, member::regrole, grantor::regrole)
  FROM pg_auth_members WHERE member = '"{role}"'::regrole
  AND NOT roleid = ANY (ARRAY(SELECT oid FROM pg_roles WHERE rolname = ANY ('{{{kept}}}'))) \\gexec
"""


def membership_sql(role: DatabaseRole) -> str:
    """Return the statements that make a role a member of what it should be; names of roles need no quotes in them."""
    grants = "".join(f"GRANT {quoted(group)} TO {quoted(role.name)};\n" for group in role.member_of)
    leave = LEAVE.format(role=role.name, kept=",".join(role.member_of)) if role.only else ""
    return leave + grants
