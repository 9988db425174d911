"""The fences of this host: promises that the kernel keeps.

Putting one up has an order. First the element in the kernel: from then on no acknowledgement leaves this host, whatever
a walreceiver still does with what it has read. Then the connections: they are ended, so that nobody waits on them. And
before :meth:`Fences.fence` returns, the fence is in a file, synchronised to the disk: neither the agent's death nor a
reboot breaks a promise.

Elements and sockets are changed by asking the kernel, in about 0.05 ms and 1 ms; ``nft`` and ``ss`` take several of a
processor each, and on a busy host wait for one first. What remains is the disk. ``nft`` loads the rules, which is rare.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from pgbaton.agent.kernel import fence_rules, nftables, sockets
from pgbaton.agent.kernel.fence_rules import FENCED, GONE, HELD, REFUSED, RESIGNED, TABLE, Fence, Serving
from pgbaton.agent.kernel.nftables import Change, Element
from pgbaton.agent.kernel.sockets import Cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pgbaton.agent.kernel.sockets import Address
    from pgbaton.agent.settings import Ports

T = TypeVar("T")

NFT = "/usr/sbin/nft"
FILE = "fences.nft"
#: Rules are loaded at the start, when a host may be busy.
LOAD_SECONDS = 10.0
#: A vote that comes later helps nobody.
PERSIST_SECONDS = 2.0


class FenceError(Exception):
    """A fence is not what it should be; says which one, why, and what holds."""


class Fences:
    """What this host has cut itself off from; ``hosts`` are the others' names with all addresses they can be met at.

    Where replication has a network of its own, a host has two, and what confirms a commit would go to the second. So a
    fence is at every address of its host, or it is none. Their etcd is at the first.

    Standing fences are read from the kernel. Remembered is only what was promised, to notice when somebody else
    (``flush ruleset`` in a reload of the host's own firewall) has taken it away.
    """

    def __init__(self, *, hosts: Mapping[str, Sequence[str]], ports: Ports, directory: Path) -> None:
        self.hosts = {
            name: tuple(str(ipaddress.ip_address(address)) for address in addresses)
            for name, addresses in hosts.items()
        }
        self.ports = ports
        self.file = directory / FILE
        self.promised: dict[str, Fence] = {}
        self.serving = Serving.OPEN
        # Nobody may add to a table while nft is about to replace it.
        self.lock = asyncio.Lock()
        # One thread each: what is written last was asked for last.
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="fences-file")
        self.cutter = ThreadPoolExecutor(1, thread_name_prefix="fences-sockets")

    async def install(self) -> tuple[Fence, ...]:
        """Load the rules, with everything that stands or was promised before a restart; return it."""
        async with self.lock:
            self.serving = serving()
            self.promised = self.completed((*read(self.file), *standing()))
            await self.load()
        await self.persist()
        await self.beside(self.cutter, sockets.prepare)
        return standing()

    async def fence(self, host: str, reason: str) -> Cut:
        """Put up a fence; when this returns it stands, is on the disk, and the connections to that host are ended.

        Raises FenceError when it does not stand or is not on the disk: nothing may be promised then.
        """
        made = [Fence(host, address, reason) for address in self.addresses(host)]
        async with self.lock:
            before = dict(self.promised)
            self.promised = {fence.address: fence for fence in made} | self.promised
            try:
                await self.change(*(Change(fence.set_name, (fence.element(),)) for fence in made))
            except FenceError:
                self.promised = before
                raise
        # Its etcd is not fenced. But who is just asking that member would wait a second for it, and can ask another.
        ends = fence_rules.primary_ports(self.ports) | fence_rules.etcd_ports(self.ports)
        cut = self.beside(self.cutter, lambda: added(sockets.cut_to(fence.ip, ends) for fence in made))
        ended, _ = await asyncio.gather(cut, self.persist())
        return ended

    def completed(self, found: Iterable[Fence]) -> dict[str, Fence]:
        """Return fences with those that belong to them by now, by address: a host may have got another one since."""
        kept = {fence.address: fence for fence in found}
        names = {address: name for name, addresses in self.hosts.items() for address in addresses}
        for fence in tuple(kept.values()):
            for address in self.hosts.get(names.get(fence.address, fence.host), ()):
                kept.setdefault(address, Fence(fence.host, address, fence.reason))
        return kept

    async def unfence(self, host: str) -> None:
        """Take a fence down: in the kernel first, so that the file never has less than was promised.

        Also that of a host which is no longer one of the others, by the name in :meth:`standing`.
        """
        async with self.lock:
            stands = [fence for fence in standing() if self.is_of(fence, host)]
            self.promised = {key: fence for key, fence in self.promised.items() if not self.is_of(fence, host)}
            await self.change(*(Change(fence.set_name, (fence.element(),), delete=True) for fence in stands))
        await self.persist()

    def standing(self) -> tuple[Fence, ...]:
        """Return the fences that stand, as the kernel has them."""
        return standing()

    async def serve(self, wanted: Serving) -> Cut:
        """Hold or refuse this host's own clients, or let them in again; those refused are told at once."""
        own = fence_rules.client_ports(self.ports)
        async with self.lock:
            self.serving = wanted
            held = turned(HELD, own, on=wanted != Serving.OPEN)
            refused = turned(REFUSED, own, on=wanted == Serving.REFUSED)
            await self.change(held, refused)
        return await self.beside(self.cutter, lambda: sockets.cut_from(own)) if wanted == Serving.REFUSED else Cut()

    def resign(self) -> None:
        """Have whoever asks this host's Patroni reset at once, for a moment: its answer would be about no server.

        Raises FenceError; without it, an election is slower by what Patroni waits for that answer.
        """
        try:
            nftables.apply(TABLE, Change(RESIGNED, (Element(self.ports.rest.to_bytes(2, "big")),)))
        except OSError as error:
            raise unreachable(error) from error

    async def drop(self, host: str) -> Cut:
        """End the connections that a host has to this one's server, and those from here to its etcd.

        It may make new ones. Whoever is just asking that member of etcd would wait for it, a peer longer than a client.
        """
        found, own = self.ips(host), frozenset({self.ports.postgresql})
        etcd = fence_rules.etcd_ports(self.ports)
        await self.beside(self.cutter, lambda: sockets.cut_to(found[0], etcd))
        return await self.beside(self.cutter, lambda: added(sockets.cut_of(address, own) for address in found))

    def shun(self, *hosts: str) -> None:
        """Have nobody here wait for these hosts' etcd, for a moment from now on: what is sent there is reset at once.

        A member of etcd passes on what it is asked to its leader, and goes on dialling one that has lost its power for
        longer than the others need to elect. Raises FenceError; without it, that is how long they wait.
        """
        found = [self.ips(host)[0] for host in hosts]
        for version, name in GONE.items():
            named = tuple(Element(each.packed) for each in found if each.version == version)
            try:
                nftables.apply(TABLE, *nftables.renewed(name, named))
            except OSError as error:
                raise unreachable(error) from error

    async def mend(self) -> tuple[str, ...]:
        """Put back what somebody else took away, and return what it was: while it was missing, a promise was broken."""
        async with self.lock:
            there = {fence.address for fence in standing()}
            lost = (fence.host for address, fence in self.promised.items() if address not in there)
            missing = list(dict.fromkeys(lost))
            if serving() != self.serving:
                missing.append(f"own clients {self.serving}")
            if missing:
                await self.load()
        return tuple(missing)

    async def change(self, *changes: Change) -> None:
        """Change elements; where the table is gone, load it as it should be."""
        try:
            nftables.apply(TABLE, *changes)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise unreachable(error) from error
            await self.load()

    async def load(self) -> None:
        """Replace the table by one with everything in it that was promised, or that stands for whatever reason."""
        kept = {fence.address: fence for fence in standing()} | self.promised
        await load(fence_rules.ruleset(self.ports, kept.values(), self.serving))

    async def persist(self) -> None:
        """Write what stands and what was promised to the disk."""
        kept = {fence.address: fence for fence in standing()} | self.promised
        text = fence_rules.ruleset(self.ports, kept.values())
        try:
            async with asyncio.timeout(PERSIST_SECONDS):
                await self.beside(self.writer, lambda: write(self.file, text))
        except (OSError, TimeoutError) as error:
            why = str(error) or f"not written within {PERSIST_SECONDS:g} s"
            message = f"{self.file}: {why}; what stands holds, but a reboot would not keep it so; fix: the disk"
            raise FenceError(message) from error

    def is_of(self, fence: Fence, host: str) -> bool:
        """Tell whether a fence is that of a host, whatever it is called by now."""
        return host == fence.host or fence.address in self.hosts.get(host, ())

    def ips(self, host: str) -> tuple[Address, ...]:
        """Return the addresses of another host as values; raises FenceError when there is none of that name."""
        return tuple(map(ipaddress.ip_address, self.addresses(host)))

    def addresses(self, host: str) -> tuple[str, ...]:
        """Return the addresses of another host; raises FenceError when there is none of that name."""
        try:
            return self.hosts[host]
        except KeyError:
            known = ", ".join(sorted(self.hosts)) or "nobody"
            message = f"fence of {host}: not a host of agent.json other than this one; known: {known}"
            raise FenceError(message) from None

    async def beside(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Do work in a thread: the agent's loop must not stand still with a disk."""
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    def close(self) -> None:
        """Let the threads go; the fences stay."""
        for executor in (self.writer, self.cutter):
            executor.shutdown(wait=False, cancel_futures=True)


def added(cuts: Iterable[Cut]) -> Cut:
    """Return what became of connections at several addresses, together."""
    every = tuple(cuts)
    reasons = dict.fromkeys(each.why for each in every if each.why)
    return Cut(sum(each.ended for each in every), sum(each.left for each in every), ", ".join(reasons))


def standing() -> tuple[Fence, ...]:
    """Return the fences that stand in the kernel; none where there is no table."""
    found = (
        fence_rules.fence(str(ipaddress.ip_address(element.key)), element.comment)
        for name in FENCED.values()
        for element in elements(name)
    )
    return tuple(sorted(found))


def serving() -> Serving:
    """Return how far this host serves clients, as the kernel has it."""
    if elements(REFUSED):
        return Serving.REFUSED
    return Serving.HELD if elements(HELD) else Serving.OPEN


def turned(set_name: str, ports: frozenset[int], *, on: bool) -> Change:
    """Return what makes a set of ports full or empty, whatever is in it."""
    if on:
        return Change(set_name, tuple(Element(port.to_bytes(2, "big")) for port in sorted(ports)))
    return Change(set_name, elements(set_name), delete=True)


def elements(set_name: str) -> tuple[Element, ...]:
    """Return what is in a set of the table; nothing where the table is not."""
    try:
        return nftables.elements(TABLE, set_name)
    except OSError as error:
        raise unreachable(error) from error


def unreachable(error: OSError) -> FenceError:
    """Return what to raise when the kernel does not do what it is asked."""
    return FenceError(f"table inet {TABLE}: {error}; fix: the agent needs nf_tables in the kernel, and CAP_NET_ADMIN")


async def restore(directory: Path) -> tuple[Fence, ...]:
    """Put up the fences that stood before a reboot, and return them; to be done before Patroni starts.

    Raises FenceError when one does not stand then: this host must not acknowledge anything before it does.
    """
    promised = read(directory / FILE)
    if promised:
        await load((directory / FILE).read_text(encoding="ascii"))
    missing = {fence.address for fence in promised} - {fence.address for fence in standing()}
    if missing:
        message = (
            f"{directory / FILE}: no fence of {', '.join(sorted(missing))} after loading it; fix: nft -f that file"
        )
        raise FenceError(message)
    return promised


async def load(text: str) -> None:
    """Have nft load a table."""
    pipe = asyncio.subprocess.PIPE
    argv = (NFT, "-f", "-")
    try:
        nft = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)  # noqa: TID251 - shipped to the hosts, where there is nothing else of ours
    except OSError as error:
        message = f"{NFT}: {error}; no fence can stand without it; fix: install nftables"
        raise FenceError(message) from error
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            said, _ = await nft.communicate(text.encode("ascii"))
    except TimeoutError:
        message = f"{NFT}: no end within {LOAD_SECONDS:g} s; the rules are as they were"
        raise FenceError(message) from None
    finally:
        # Also where the agent ends meanwhile: rules are loaded in one transaction, or not at all.
        if nft.returncode is None:
            nft.kill()
            await nft.communicate()
    if nft.returncode != 0:
        message = f"{NFT}: {said.decode(errors='replace').strip()}; the rules are as they were; fix: CAP_NET_ADMIN, nft"
        raise FenceError(message)


def read(file: Path) -> tuple[Fence, ...]:
    """Return the fences in the file; none when there is no file."""
    try:
        return fence_rules.parse(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file}: {error}; what was promised is not known; fix: mend it, or remove it when nobody is fenced"
        raise FenceError(message) from error


def write(file: Path, text: str) -> None:
    """Replace the file, and return when the disk has it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as stream:  # noqa: PTH123 - a descriptor
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
