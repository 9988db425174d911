"""Faults of pages: bytes on a standby's disk that are not those that were written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.components import patroni
from pgbaton.errors import CommandError, Error
from pgbaton.operate.waiting import until
from pgbaton.proof import final
from pgbaton.proof.checkers.base import Check, Validity
from pgbaton.proof.faults.base import Fault, Seen
from pgbaton.proof.faults.standbys import a_standby, clone_anew, start_patroni, unnoticed
from pgbaton.proof.workloads.base import SCHEMA
from pgbaton.topology.model import Role

if TYPE_CHECKING:
    from pgbaton.proof.faults.base import Strike

#: How long the standby may take to replay, to shut down, and to answer again.
REPLAYED_SECONDS = 60.0
STOPPED_SECONDS = 60.0
ANSWERS_SECONDS = 60.0

#: A table in one page, and the word that all its rows have. Nothing but its checksum tells that the other word is not
#: what was written: without one, a read would be answered with it.
TABLE = f"{SCHEMA}.left_alone"
WRITTEN, DAMAGED = "right", "wrong"
CONTENT = f"SELECT string_agg(word, ' ' ORDER BY id) FROM {TABLE}"  # noqa: S608 - constants of this module

# Whatever changes the page later is replayed and makes it whole: VACUUM and a read set all the hints that there are to
# set, autovacuum stays away, and a standby that has made a restartpoint begins its replay after the checkpoint.
FILL = (
    f"DROP TABLE IF EXISTS {TABLE}",
    f"CREATE TABLE {TABLE} (id integer, word text) WITH (autovacuum_enabled = off)",
    f"INSERT INTO {TABLE} SELECT id, '{WRITTEN}' FROM generate_series(1, 8) AS id",  # noqa: S608 - likewise
    f"VACUUM (FREEZE) {TABLE}",
    CONTENT,
    "CHECKPOINT",
)
PLACE = f"SELECT pg_current_wal_flush_lsn(), pg_relation_filepath('{TABLE}')"

# Arguments: file, word, another word of the same length. That the word is not there is an error: it would be no damage.
OVERWRITE = """
import os, sys
path, written, damaged = sys.argv[1:]
with open(path, "r+b") as file:
    place = file.read().index(written.encode())
    file.seek(place)
    file.write(damaged.encode())
    file.flush()
    os.fsync(file.fileno())
"""
#: What PostgreSQL says of a page whose checksum is not that of its bytes.
INVALID_PAGE = "invalid page in block"


async def damage(strike: Strike) -> None:
    """Fill a table, and overwrite a word of it in the file of a standby that is stopped: no memory has it then."""
    target, standby, primary = strike.target, strike.host, strike.before.primary
    await final.sql(target, primary, *FILL)
    position, path = (await final.sql(target, primary, PLACE)).split("|")
    await final.until_replayed(target, standby, position, seconds=REPLAYED_SECONDS)
    await final.sql(target, standby, "CHECKPOINT")
    host = strike.on(standby)
    await host.run("systemctl", "stop", patroni.UNIT, timeout=STOPPED_SECONDS)
    await host.run("python3", "-c", OVERWRITE, f"{strike.topology.data_directory}/{path}", WRITTEN, DAMAGED)
    await start_patroni(strike)
    await until(f"{standby} answers again", lambda: silence(strike), seconds=ANSWERS_SECONDS)


async def silence(strike: Strike) -> str | None:
    """Tell why the standby's server does not answer, None when it does."""
    try:
        await final.sql(strike.target, strike.host, "SELECT 1")
    except Error as error:
        return error.message.splitlines()[-1]
    return None


async def read_damaged(strike: Strike) -> Seen:
    """Read the damaged page on the standby itself."""
    whole = await final.sql(strike.target, await strike.target.primary(), CONTENT)
    try:
        said = await final.sql(strike.target, strike.host, CONTENT)
    except CommandError as error:
        return Seen((refusal(error.message),))
    return Seen((answered(said, whole),))


def refusal(message: str) -> Check:
    """Judge the error that a read of the damaged page ended with: only one that tells of damage is right. Pure."""
    said = message.splitlines()[-1]
    if INVALID_PAGE in message:
        return Check("damage", Validity.VALID, (), {"read": said})
    return Check("damage", Validity.UNKNOWN, (f"the damaged page could not be read at all: {said}",))


def answered(said: str, whole: str) -> Check:
    """Judge rows that a read of the damaged page was answered with: wrong ones break the promise. Pure."""
    if said == whole:
        return Check("damage", Validity.UNKNOWN, ("the page was read as it was written: it was not damaged",))
    return Check("damage", Validity.INVALID, (f"wrong rows were read from the damaged page, without an error: {said}",))


async def read_rebuilt(strike: Strike) -> Seen:
    """Read the same page on the standby that was cloned anew."""
    whole = await final.sql(strike.target, await strike.target.primary(), CONTENT)
    try:
        said = await final.sql(strike.target, strike.host, CONTENT)
    except CommandError as error:
        said = error.message.splitlines()[-1]
    return Seen((rebuilt(said, whole),))


def rebuilt(said: str, whole: str) -> Check:
    """Judge what a read on the standby says when it has been cloned anew. Pure."""
    if said == whole:
        return Check("rebuilt", Validity.VALID)
    return Check("rebuilt", Validity.INVALID, (f"cloned anew, the standby does not read as the primary: {said}",))


FAULTS = (
    Fault(
        name="standby-corrupted",
        title="Standby with a damaged page",
        does="a word in a page of a standby that is stopped is overwritten on its disk, and the standby started again",
        right="whoever reads the page gets an error that tells of it, nobody gets wrong rows, clients of other data "
        "notice nothing; cloned anew by its operator, the standby reads as the primary",
        victims=a_standby,
        inject=damage,
        heal=clone_anew,
        look=read_damaged,
        look_after=read_rebuilt,
        expects=unnoticed,
        needs=((Role.DATABASE, 2),),
        composable=False,
    ),
)
