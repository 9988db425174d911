"""Host: a name, and a way to run a program there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgbaton.hosts import process

if TYPE_CHECKING:
    from pgbaton.hosts.process import Result


@dataclass(frozen=True)
class Host(ABC):
    """A machine that programs can be run on, as root.

    A transport says only how a command line for the host becomes one for the local machine.
    """

    name: str

    @abstractmethod
    def local_argv(self, argv: tuple[str, ...], *, terminal: bool = False) -> tuple[str, ...]:
        """Return the local command line that runs ``argv`` on this host.

        ``terminal`` asks for a pseudo-terminal where the transport has to allocate one.
        """

    async def run(
        self,
        *argv: str,
        input: str | bytes | None = None,  # noqa: A002 - the name subprocess uses
        check: bool = True,
        timeout: float | None = 30.0,
    ) -> Result:
        """Run a program on this host to its end; ``timeout`` is in seconds.

        Raises CommandError on a non-zero exit when ``check``, UnreachableError when the host does not answer.
        """
        local = self.local_argv(argv)
        return await process.run(*local, input=input, check=check, timeout=timeout, where=self.name)
