"""Whether the cluster was whole again at the end. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgbaton.proof.checkers.base import Check, Validity

if TYPE_CHECKING:
    from pgbaton.proof.checkers.base import Evidence

NAME = "whole"


def whole(evidence: Evidence) -> Check:
    """Pass on what was still wrong with the cluster when it had had its time to mend."""
    if evidence.remains is None:
        return Check(NAME, Validity.UNKNOWN, ("nobody could look at the cluster at the end",))
    validity = Validity.INVALID if evidence.remains else Validity.VALID
    return Check(NAME, validity, tuple(evidence.remains), {"remaining": len(evidence.remains)})
