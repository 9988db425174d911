"""Texts that may be shown: secrets as references, unknown credentials masked, differences as unified diffs."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from pgbaton import references
from pgbaton.components.base import describe

if TYPE_CHECKING:
    from pgbaton.deploy.steps import Step
    from pgbaton.secrets import Vault

MASK = "<<masked>>"
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_VERIFIER = re.compile(r"SCRAM-SHA-256\$\S+|\bmd5[0-9a-f]{32}\b")
_ADDRESS = re.compile(r"(://[^/\s:@]+:)[^@\s]+@")
_SETTING = re.compile(
    r"(?im)^(?P<name>.*?(?:passw(?:or)?d|passphrase|secret|auth_pass|heartbeat_key|token)\w*[\"']?\s*[:=\s]\s*)(?P<value>\S.*)$"
)
_LOGIN = re.compile(r'(?m)^("[^"\n]*"\s+)"[^"\n]*"')
_REFERENCES_ONLY = re.compile(rf"(\s|{references.REFERENCE.pattern})+")


def text_of(content: bytes) -> str:
    """Return a file found on a host as a text: what it says, or what it is where it is none."""
    return describe(content) if b"\0" in content else content.decode(errors="replace")


def presentable(vault: Vault, text: str, *, beside: str = "") -> str:
    """Return a text found on a host as it may be shown: known secrets as references, unknown ones masked.

    ``beside`` is a text without secrets that it is shown beside: lines that are in both are shown as they are.
    """
    return mask(vault.redact(text), shown=frozenset(beside.splitlines()))


def mask(text: str, *, shown: frozenset[str] = frozenset()) -> str:
    """Mask what looks like a credential, is no reference, and is not a line shown anyway."""
    text = _PRIVATE.sub(MASK, text)
    text = _VERIFIER.sub(MASK, text)
    text = _ADDRESS.sub(rf"\1{MASK}@", text)
    text = _SETTING.sub(lambda found: found[0] if found[0] in shown else _masked_setting(found), text)
    return _LOGIN.sub(lambda found: found[0] if references.names(found[0]) else f'{found[1]}"{MASK}"', text)


def _masked_setting(found: re.Match[str]) -> str:
    comment = found["name"].lstrip().startswith(("#", ";"))
    harmless = references.names(found[0]) or MASK in found[0] or comment or found["value"].startswith("/")
    return found[0] if harmless else f"{found['name']}{MASK}"


def wholly_secret(content: str) -> bool:
    """Tell whether a file is nothing but references, so that a difference says nothing."""
    return bool(references.names(content)) and _REFERENCES_ONLY.fullmatch(content) is not None


def unified(step: Step) -> list[str]:
    """Return the difference a step makes as the lines of a unified diff; a secret file has none."""
    if step.secret:
        return []
    before, after = (text.splitlines() for text in (step.before, step.after))
    old, new = (step.subject if text else "/dev/null" for text in (step.before, step.after))
    return list(difflib.unified_diff(before, after, old, new, lineterm="", n=2))
