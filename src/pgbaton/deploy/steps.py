"""What a plan is made of: frozen values that can be shown, saved as JSON and compared. No secret is ever in them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pgbaton.components.base import Wave

#: The units whose restart restarts PostgreSQL: Patroni's, and ours where a person promotes.
DATABASE_UNITS = frozenset({"patroni.service", "pgbaton-postgresql.service"})


class Stage(IntEnum):
    """The order of an apply: the components' waves, with what comes before, between and after them."""

    PACKAGES = 0
    SYSTEM = 1
    TLS = 2
    DCS = 3
    DATABASE = 4
    OBJECTS = 5
    POOLER = 6
    BALANCER = 7
    VIP = 8
    AGENT = 9
    LEFTOVERS = 10

    @classmethod
    def of(cls, wave: Wave) -> Stage:
        """Return the stage in which a component of a wave is brought up."""
        return cls[wave.name]

    @property
    def title(self) -> str:
        """Return the stage's name for people."""
        return TITLES[self]


TITLES = {
    Stage.PACKAGES: "packages",
    Stage.SYSTEM: "system",
    Stage.TLS: "certificates",
    Stage.DCS: "etcd",
    Stage.DATABASE: "databases",
    Stage.OBJECTS: "roles, databases and dynamic configuration",
    Stage.POOLER: "poolers",
    Stage.BALANCER: "balancers",
    Stage.VIP: "VIP",
    Stage.AGENT: "agents",
    Stage.LEFTOVERS: "leftovers",
}


class Cost(IntEnum):
    """What carrying out a step costs those who use the cluster."""

    NOTHING = 0
    RELOAD = 1
    RESTART = 2
    SWITCHOVER = 3

    @property
    def label(self) -> str:
        """Return the cost's name for people."""
        return self.name.lower()


class Kind(StrEnum):
    """What a step changes."""

    PACKAGES = "packages"
    FILE = "file"
    REMOVE_FILE = "remove-file"
    UNIT = "unit"
    ADDRESS = "address"
    DYNAMIC_CONFIGURATION = "dynamic-configuration"
    DATABASE_OBJECT = "database-object"


@dataclass(frozen=True)
class Step:
    """One change: what is there, what will be there, and what that costs.

    ``before`` and ``after`` are texts to show: secrets appear as references, unknown credentials are masked.
    ``before_digest`` is the SHA-256 of what was found (empty: nothing there); an apply holds it against the host again.
    ``before_access`` and ``access`` are "mode owner group". A file comes from ``after``, or from the copy on the host
    that ``source`` names; of a ``binary`` one, ``after`` only says what it is, and the blueprint has it. A step without
    a host changes the cluster, by way of its primary.
    """

    kind: Kind
    stage: Stage
    host: str
    component: str
    subject: str
    action: str
    cost: Cost = Cost.NOTHING
    before: str = ""
    after: str = ""
    before_digest: str = ""
    before_access: str = ""
    access: str = ""
    secret: bool = False
    binary: bool = False
    unit: str = ""
    on_change: str = "nothing"
    source: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what identifies the step within a plan."""
        return (self.kind.value, self.host, self.subject)

    @property
    def actions(self) -> tuple[str, ...]:
        """Return a unit step's actions, in order."""
        return tuple(self.action.split(", "))

    def __str__(self) -> str:
        """Return the step in a few words."""
        return f"{self.host or 'cluster'}: {self.action} {self.subject}"

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON carries it."""
        return {**asdict(self), "stage": self.stage.name.lower(), "cost": self.cost.label}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read a step; raises KeyError, TypeError or ValueError when the data is not one."""
        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        known |= {"kind": Kind(data["kind"]), "stage": Stage[data["stage"].upper()], "cost": Cost[data["cost"].upper()]}
        return cls(**known)


@dataclass(frozen=True)
class PlannedWave:
    """The steps of one stage; ``batches`` are hosts that are worked on together, one batch after another."""

    stage: Stage
    batches: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]

    def of(self, host: str) -> tuple[Step, ...]:
        """Return the steps of one host."""
        return tuple(step for step in self.steps if step.host == host)


@dataclass(frozen=True)
class Plan:
    """Everything that one apply would change, in order.

    ``topology`` is the text of the file it was made from, ``previous_topology`` that of the one applied before it;
    None when this is the first. ``notes`` are what the plan leaves alone and should be known.
    """

    id: str
    cluster: str
    created: str
    topology: str
    previous_topology: str | None
    waves: tuple[PlannedWave, ...]
    issued: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return all the steps, in the order of the waves."""
        return tuple(step for wave in self.waves for step in wave.steps)

    @property
    def changes(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.steps)

    @property
    def cost(self) -> Cost:
        """Return the highest cost of any step."""
        return max((step.cost for step in self.steps), default=Cost.NOTHING)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON carries it."""
        waves = [
            {
                "stage": wave.stage.name.lower(),
                "batches": [list(batch) for batch in wave.batches],
                "steps": [step.to_json() for step in wave.steps],
            }
            for wave in self.waves
        ]
        own = {name: getattr(self, name) for name in ("id", "cluster", "created", "topology", "previous_topology")}
        extra = {"issued": list(self.issued), "notes": list(self.notes)}
        return {"format": FORMAT, **own, **extra, "changes": self.changes, "cost": self.cost.label, "waves": waves}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read a plan; raises KeyError, TypeError or ValueError when the data is not one."""
        if data["format"] != FORMAT:
            message = f"a plan of format {data['format']}, not {FORMAT}"
            raise ValueError(message)
        waves = tuple(
            PlannedWave(
                Stage[wave["stage"].upper()],
                tuple(tuple(batch) for batch in wave["batches"]),
                tuple(Step.from_json(step) for step in wave["steps"]),
            )
            for wave in data["waves"]
        )
        own = {name: data[name] for name in ("id", "cluster", "created", "topology", "previous_topology")}
        return cls(**own, waves=waves, issued=tuple(data["issued"]), notes=tuple(data["notes"]))


FORMAT = 1
