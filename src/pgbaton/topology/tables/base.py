"""What every table is made with: its shape, and the forms that names, ports and durations have.

Durations are in seconds, sizes in bytes unless the name says otherwise.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

IDENTIFIER = r"^[a-z_][a-z0-9_]{0,62}$"
HOST_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DNS_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
SLUG = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
SETTING = r"^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$"
FAILURE_DOMAIN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
INTERFACE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$"
LOGIN = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$"
LOCALE = r"^[A-Za-z][A-Za-z0-9_.@-]{0,62}$"
EXTENSION = r"^[a-z][a-z0-9_-]{0,62}$"

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Identifier = Annotated[str, Field(pattern=IDENTIFIER)]
HostName = Annotated[str, Field(pattern=HOST_NAME)]
DnsName = Annotated[str, Field(pattern=DNS_NAME, max_length=253)]
Slug = Annotated[str, Field(pattern=SLUG)]
SettingName = Annotated[str, Field(pattern=SETTING)]


class Section(BaseModel):
    """A table of the topology file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)
