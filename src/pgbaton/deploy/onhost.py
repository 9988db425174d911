"""Carry out one host's share of a wave, on the host. Runs there: Python 3.9 or later, standard library only.

The request comes as JSON over standard input, because it carries secrets; the answer is JSON on standard output.
Nothing is replaced before everything has been staged and checked. What changed files ask of units is written down
before the first file is replaced and crossed out when it is done, so that an interrupted run is taken up by the next.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import grp
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = "var/lib/pgbaton"
UNIT_DIRECTORY = "/etc/systemd/"
#: How many applies back a host keeps previous files of.
KEPT = 5
STRENGTH = {"nothing": 0, "reload": 1, "restart": 2}
#: What systemd is told for an action, and the seconds it may take; masking comes before anything is started.
COMMANDS = {
    "unmask": ("--no-reload", "unmask"),
    "enable": ("--no-reload", "enable"),
    "mask": ("mask", "--now"),
    "disable": ("disable", "--now"),
    "start": ("start",),
    "reload": ("reload-or-restart",),
    "restart": ("restart",),
}
UNIT_SECONDS = 180
CHECK_SECONDS = 60


class ProblemError(Exception):
    """Something stopped the work; ``kind`` is "drift", "check", "file", "unit" or "address", ``subject`` which."""

    def __init__(self, message: str, *, kind: str, subject: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.subject = subject


class Work:
    """One request on one host; ``root`` is the root of its file system."""

    def __init__(self, root: Path, request: dict[str, Any]) -> None:
        self.root = root
        self.home = root / HOME
        self.request = request
        self.files: list[dict[str, Any]] = request["files"]
        self.staging = self.home / "staging"
        self.previous = self.home / "previous" / request["plan"]
        self.done: list[str] = []
        self.created: list[Path] = []

    def carry_out(self) -> None:
        """Do it all, in the order that is safe."""
        self.prepare()
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.carry_out_alone()
            finally:
                shutil.rmtree(self.staging, ignore_errors=True)

    def carry_out_alone(self) -> None:
        """Do it all while no other run is at work on this host."""
        self.refuse_drift()
        self.stage()
        self.claim()
        self.keep_previous()
        promised = load(self.home / "pending.json", {})
        self.promise()
        self.put_new()
        try:
            self.check()
        except ProblemError:
            for path in self.created:
                path.unlink(missing_ok=True)
            self.save_pending(promised)
            raise
        self.disable()
        self.replace()
        self.remove()
        self.act()
        self.take_away()
        self.record()

    def prepare(self) -> None:
        """Make the directories. Staged copies have their final owners and modes; checks run as other users pass."""
        for path, mode in ((self.home, 0o711), (self.home / "previous", 0o700)):
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            path.chmod(mode)

    def at(self, path: str) -> Path:
        """Return where a path of the host is."""
        return self.root / path.lstrip("/")

    def refuse_drift(self) -> None:
        """Refuse when a file is neither what the plan saw nor what it will be."""
        for file in [*self.files, *self.request["remove"]]:
            path = self.at(file["path"])
            found = digest(path.read_bytes()) if path.is_file() else ""
            if found not in {file["before"], file.get("after")} and not file.get("may_appear"):
                message = "the file changed since the plan was made"
                raise ProblemError(message, kind="drift", subject=file["path"])

    def stage(self) -> None:
        """Write the new files where nothing reads them."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(mode=0o711)
        self.staging.chmod(0o711)
        for number, file in enumerate(self.files):
            content = self.at(file["source"]).read_bytes() if file["source"] else base64.b64decode(file["content"])
            file["staged"] = self.staging / f"{number:03d}-{Path(file['path']).name}"
            write(file["staged"], content, file, durable=False)

    def claim(self) -> None:
        """Write down whose host this is before anything on it changes."""
        manifest = self.manifest()
        if manifest["cluster"] != self.request["cluster"]:
            self.save_manifest({**manifest, "cluster": self.request["cluster"]})

    def keep_previous(self) -> None:
        """Keep what will be replaced or removed, for rollback; what an interrupted run kept stays."""
        affected = [*self.files, *self.request["remove"]]
        if not affected:
            return
        if not self.previous.exists():
            self.previous.mkdir(mode=0o700)
            kept = sorted((self.home / "previous").iterdir(), key=lambda path: path.stat().st_mtime)
            for old in kept[:-KEPT]:
                shutil.rmtree(old)
        index = load(self.previous / "index.json", [])
        known = {entry["path"] for entry in index}
        index += [
            self.keep(file, len(index) + n) for n, file in enumerate(f for f in affected if f["path"] not in known)
        ]
        save(self.previous / "index.json", index)

    def keep(self, file: dict[str, Any], number: int) -> dict[str, Any]:
        """Keep one file; return its entry in the index."""
        names = ("path", "stage", "component", "unit", "on_change", "secret")
        entry = {name: file[name] for name in names}
        path = self.at(file["path"])
        if not path.is_file():
            return {**entry, "kept": None, "access": "", "digest": ""}
        copy = self.previous / f"{number:03d}"
        content = path.read_bytes()
        write(copy, content, {"access": "0600"})
        saved = "/" + str(copy.relative_to(self.root))
        return {**entry, "kept": saved, "access": access(path), "digest": digest(content)}

    def promise(self) -> None:
        """Write down what the changed files will ask of their units."""
        waiting = load(self.home / "pending.json", {})
        asked = [(name, file["on_change"]) for file in self.files for name in self.concerned(file["unit"])]
        asked += [(unit["name"], action) for unit in self.request["units"] for action in unit["actions"]]
        for unit, change in asked:
            if STRENGTH.get(change, 0) > STRENGTH[waiting.get(unit, "nothing")]:
                waiting[unit] = change
        self.save_pending(waiting)

    def concerned(self, unit: str) -> list[str]:
        """Return the units that a file's unit stands for: itself, or those of our instances of a template."""
        stem, at, _ = unit.partition("@.")
        if not at:
            return [unit] if unit else []
        return [name for name in self.manifest()["units"] if name.startswith(f"{stem}@")]

    def save_pending(self, waiting: dict[str, str]) -> None:
        """Write down what units still have to do; nothing to do needs no file."""
        if waiting:
            save(self.home / "pending.json", waiting)
        else:
            (self.home / "pending.json").unlink(missing_ok=True)

    def put_new(self) -> None:
        """Put files in place that replace nothing and that no check is about: checked files may name them."""
        checked = {path for check in self.request["checks"] for path in check["paths"]}
        for file in self.files:
            path = self.at(file["path"])
            if not path.exists() and file["path"] not in checked:
                self.put(file)
                self.created.append(path)

    def check(self) -> None:
        """Let each component's own validator see the staged files."""
        staged = {file["path"]: str(file["staged"]) for file in self.files if file["staged"].exists()}
        for check in self.request["checks"]:
            if not staged.keys() & set(check["paths"]):
                continue
            argv = [substitute(word, check["paths"], staged, self) for word in check["argv"]]
            if check["user"] != "root":
                argv = ["runuser", "-u", check["user"], "--", *argv]
            result = run(argv, CHECK_SECONDS)
            if result.returncode:
                said = f"{result.stdout}{result.stderr}".strip()[-2000:]
                raise ProblemError(
                    said or f"exit status {result.returncode}", kind="check", subject=", ".join(check["paths"])
                )

    def replace(self) -> None:
        """Put the staged files in place, each in one act."""
        for file in self.files:
            if file["staged"].exists():
                self.put(file)

    def put(self, file: dict[str, Any]) -> None:
        """Put one staged file in place, by a rename within its directory."""
        path = self.at(file["path"])
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.pgbaton")
        write(beside, file["staged"].read_bytes(), file)
        beside.replace(path)
        file["staged"].unlink()
        self.done.append(file["path"])

    def disable(self) -> None:
        """Stop what is no longer wanted while its files are still there."""
        for unit in self.request["units"]:
            if "disable" in unit["actions"]:
                self.tell("disable", unit["name"])
                self.done.append(unit["name"])

    def remove(self) -> None:
        """Remove files that are no longer wanted."""
        for file in self.request["remove"]:
            self.at(file["path"]).unlink(missing_ok=True)
            self.done.append(file["path"])

    def act(self) -> None:
        """Tell systemd: what to mask, unmask and enable, then each unit in order."""
        units = [unit for unit in self.request["units"] if "disable" not in unit["actions"]]
        for action in ("mask", "unmask", "enable"):
            names = [unit["name"] for unit in units if action in unit["actions"]]
            if names:
                self.systemctl(action, *names)
        if self.must_reload_daemon():
            run(["systemctl", "daemon-reload"], UNIT_SECONDS)
        for unit in units:
            for action in unit["actions"]:
                if action in {"start", "reload", "restart"}:
                    self.tell(action, unit["name"])
            self.done.append(unit["name"])

    def take_away(self) -> None:
        """Take addresses away that float no more; one that is not there needs nothing, and none may be left."""
        for subject in self.request.get("addresses", ()):
            address, _, interface = subject.split()
            said = run(["ip", "address", "del", address, "dev", interface], CHECK_SECONDS).stderr.strip()
            if f" {address} " in run(["ip", "-o", "address", "show", "dev", interface], CHECK_SECONDS).stdout:
                raise ProblemError(said, kind="address", subject=subject)

    def must_reload_daemon(self) -> bool:
        """Tell whether systemd has older unit files in mind than there are."""
        units: list[dict[str, Any]] = self.request["units"]
        asked = {action for unit in units for action in unit["actions"]}
        if asked & {"daemon-reload", "enable", "unmask"}:
            return True
        affected = [*self.files, *self.request["remove"]]
        changed = any(file["path"].startswith(UNIT_DIRECTORY) for file in affected)
        names = [unit["name"] for unit in units]
        return changed or (bool(names) and "yes" in systemd_says("NeedDaemonReload", *names))

    def tell(self, action: str, unit: str) -> None:
        """Start, reload, restart or disable a unit, and cross out what it had to do."""
        if action == "start" and "failed" in systemd_says("ActiveState", unit):
            run(["systemctl", "reset-failed", unit], UNIT_SECONDS)
        self.systemctl(action, unit)
        waiting = load(self.home / "pending.json", {})
        if waiting.pop(unit, None):
            self.save_pending(waiting)

    def systemctl(self, action: str, *units: str) -> None:
        """Tell systemd; a unit that systemd itself starts again has not failed yet: its probe decides."""
        try:
            result = run(["systemctl", *COMMANDS[action], *units], UNIT_SECONDS)
        except subprocess.TimeoutExpired:
            message = f"systemctl {action} did not end within {UNIT_SECONDS} s"
            raise ProblemError(message, kind="unit", subject=units[0]) from None
        if result.returncode == 0:
            return
        if action in {"start", "restart"} and "activating" in systemd_says("ActiveState", *units):
            return
        message = f"systemctl {action} failed: {result.stderr.strip()[-800:]}"
        raise ProblemError(message, kind="unit", subject=units[0])

    def record(self) -> None:
        """Add this share of the wave to the manifest."""
        manifest = self.manifest()
        gone = {file["path"] for file in self.request["remove"]}
        stopped = {unit["name"] for unit in self.request["units"] if "disable" in unit["actions"]}
        files = {path: known for path, known in manifest["files"].items() if path not in gone}
        for path in [*self.request["manifest"]["files"], *(file["path"] for file in self.files)]:
            if self.at(path).is_file():
                files[path] = digest(self.at(path).read_bytes())
        units = (set(manifest["units"]) - stopped) | set(self.request["manifest"]["units"])
        wanted = {"cluster": self.request["cluster"], "files": dict(sorted(files.items())), "units": sorted(units)}
        if wanted != manifest:
            self.save_manifest(wanted)

    def manifest(self) -> dict[str, Any]:
        """Return what pgbaton has put on this host so far."""
        found: dict[str, Any] = load(self.home / "manifest.json", {})
        return {"cluster": "", "files": {}, "units": [], **found}

    def save_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest."""
        save(self.home / "manifest.json", manifest)


def substitute(word: str, paths: list[str], staged: dict[str, str], work: Work) -> str:
    """Put staged copies, or files that stay as they are, in the place of ``{path}``."""
    for path in paths:
        word = word.replace(f"{{{path}}}", staged.get(path, str(work.at(path))))
    return word


def run(argv: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
    )


def systemd_says(name: str, *units: str) -> set[str]:
    """Return the values that systemd has for a property of units."""
    return set(run(["systemctl", "show", "--value", "-p", name, *units], UNIT_SECONDS).stdout.split())


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def access(path: Path) -> str:
    """Return a file's mode, owner and group as one text."""
    found = path.stat()
    with contextlib.suppress(KeyError):
        return f"{found.st_mode & 0o7777:04o} {pwd.getpwuid(found.st_uid).pw_name} {grp.getgrgid(found.st_gid).gr_name}"
    return f"{found.st_mode & 0o7777:04o} {found.st_uid} {found.st_gid}"


def write(path: Path, content: bytes, file: dict[str, Any], *, durable: bool = True) -> None:
    """Write a file with its final owner and mode, private until then; ``durable`` sees it on the disk."""
    mode, *owner = file["access"].split()
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(content)
        target.flush()
        if owner:
            try:
                shutil.chown(path, owner[0], owner[1])
            except LookupError as error:
                raise ProblemError(str(error), kind="file", subject=file["path"]) from None
        os.fchmod(target.fileno(), int(mode, 8))
        if durable:
            os.fsync(target.fileno())


def load(path: Path, otherwise: Any) -> Any:  # noqa: ANN401 - JSON has no static type
    """Read a JSON file; one that is missing is ``otherwise``."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise


def save(path: Path, data: object) -> None:
    """Replace a JSON file of ours in one act, readable by root alone."""
    beside = path.with_name(f".{path.name}.new")
    write(beside, (json.dumps(data, indent=1) + "\n").encode(), {"access": "0600"})
    beside.replace(path)


def main() -> None:
    """Carry out the request on standard input; the argument is the root of the file system."""
    os.umask(0o022)
    work = Work(Path(sys.argv[1]), json.load(sys.stdin))
    problem = None
    try:
        work.carry_out()
    except ProblemError as error:
        problem = {"kind": error.kind, "subject": error.subject, "message": str(error)}
    except OSError as error:
        problem = {"kind": "file", "subject": str(error.filename), "message": error.strerror or str(error)}
    sys.stdout.write(json.dumps({"done": work.done, "problem": problem}) + "\n")


if __name__ == "__main__":
    main()
