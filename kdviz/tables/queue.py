"""A queue of jobs that survives the death of any worker at any moment: one SQLite file, changed in transactions alone.

A worker holds an operating-system lock on a file of its own for as long as it lives. The kernel drops the lock with the
process, so that on one host a dead worker's job is free again at once, and a slow one's never. A worker on another host
counts as dead when its heartbeat is older than `LEASE` seconds. SQLite needs a file system with working locks: a local
disk, or a network one that has them.
"""

import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from kdviz.base.check import KdvizError

LEASE = 120.0  # seconds without a heartbeat after which a worker on another host counts as dead
BEAT = 10.0
FAILURES = 3  # attempts that end in an unforeseen error, before a job is given up
DEATHS = 20  # workers that die at one job, before it is given up
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
_SCHEMA = """
create table if not exists job(id text primary key, payload text not null, after text, state text not null,
  token text, host text, beat real, failures integer not null default 0, deaths integer not null default 0, line text);
create table if not exists member(plan text not null, id text not null, primary key(plan, id));
create table if not exists event(at real not null, id text not null, what text not null, worker text);
"""


@dataclass(frozen=True)
class Entry:
    """A job as the queue knows it; `line` is the last error, "" where there was none."""

    id: str
    payload: Mapping[str, Any]
    state: str
    after: str | None
    worker: str | None
    failures: int
    deaths: int
    line: str


class Queue:
    """The jobs of all tables over one folder of runs; a plan names those of one table.

    Args:
        path: the SQLite file; it and its folder are made.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KdvizError(f"cannot write {self.path}: {error.strerror or error}") from error
        with self._transaction() as rows:
            for statement in _SCHEMA.split(";"):
                rows.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A connection inside a transaction that no other process can enter; rolled back on any error."""
        connection = None
        try:
            connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            connection.row_factory = sqlite3.Row
            connection.execute("begin immediate")
            yield connection
            connection.execute("commit")
        except sqlite3.Error as error:
            raise KdvizError(f"{self.path}: the queue cannot be used ({error}); is the disk full?") from error
        finally:
            if connection is not None:
                connection.close()  # which rolls back what was not committed

    def put(
        self, plan: str, jobs: Iterable[tuple[str, Mapping[str, Any], str | None]], finished: Collection[str] = ()
    ) -> None:
        """Make the plan's jobs exactly these (id, payload, id of the job before it).

        Those in `finished` are done; of the others, running ones go on and the rest wait, with a clean record: asking
        again retries what failed.
        """
        with self._transaction() as rows:
            self._reclaim(rows)
            rows.execute("delete from member where plan = ?", (plan,))
            for name, payload, after in jobs:
                state = DONE if name in finished else WAITING
                rows.execute(
                    "insert into job(id, payload, after, state) values(?, ?, ?, ?) on conflict(id) do update set"
                    " payload = excluded.payload, after = excluded.after, state = excluded.state, failures = 0,"
                    " deaths = 0, line = null where state <> 'running'",
                    (name, json.dumps(payload), after, state),
                )
                rows.execute("insert into member values(?, ?)", (plan, name))

    def take(self, plan: str, worker: "Worker") -> Entry | None:
        """The plan's next job whose teacher is there, now this worker's; None where there is none at the moment."""
        with self._transaction() as rows:
            self._reclaim(rows)
            found = rows.execute(
                "select job.* from job join member using(id) left join job as teacher on teacher.id = job.after"
                " where plan = ? and job.state = 'waiting' and (job.after is null or teacher.state = 'done')"
                " order by member.rowid limit 1",
                (plan,),
            ).fetchone()
            if found is None:
                return None
            rows.execute(
                "update job set state = 'running', token = ?, host = ?, beat = ? where id = ?",
                (worker.token, worker.host, time.time(), found["id"]),
            )
            self._note(rows, found["id"], "taken", worker.token)
            return _entry(found)

    def beat(self, worker: "Worker") -> bool:
        """Renew the worker's lease; False where the job is no longer its own."""
        with self._transaction() as rows:
            changed = rows.execute(
                "update job set beat = ? where token = ? and state = 'running'", (time.time(), worker.token)
            )
            return changed.rowcount > 0

    def finish(self, name: str, worker: "Worker") -> bool:
        """Mark the job done; False, and nothing changes, where it is no longer this worker's."""
        return self._end(name, worker, DONE, "done", None)

    def release(self, name: str, worker: "Worker") -> bool:
        """Give the job back, to be resumed by anyone."""
        return self._end(name, worker, WAITING, "released", None)

    def fail(self, name: str, worker: "Worker", line: str, *, final: bool) -> bool:
        """Record an error in one line. The job waits to be tried again unless the error is final, or one too many."""
        with self._transaction() as rows:
            found = rows.execute("select failures from job where id = ?", (name,)).fetchone()
            tried = found["failures"] + 1 if found else FAILURES
            rows.execute("update job set failures = ? where id = ? and token = ?", (tried, name, worker.token))
        over = final or tried >= FAILURES
        return self._end(name, worker, FAILED if over else WAITING, "failed", line)

    def _end(self, name: str, worker: "Worker", state: str, what: str, line: str | None) -> bool:
        with self._transaction() as rows:
            changed = rows.execute(
                "update job set state = ?, token = null, line = ? where id = ? and token = ? and state = 'running'",
                (state, line, name, worker.token),
            )
            if changed.rowcount:
                self._note(rows, name, what, worker.token)
            return changed.rowcount > 0

    def open(self, plan: str) -> bool:
        """Whether a job of the plan runs, or waits for nothing that has failed."""
        with self._transaction() as rows:
            self._reclaim(rows)
        entries = {entry.id: entry for entry in self.entries(plan)}
        stuck = {name for name, entry in entries.items() if entry.state == FAILED}
        return any(
            entry.state == RUNNING or (entry.state == WAITING and entry.after not in stuck)
            for entry in entries.values()
        )

    def entries(self, plan: str) -> list[Entry]:
        """The plan's jobs, in its order."""
        with self._transaction() as rows:
            found = rows.execute(
                "select job.* from job join member using(id) where plan = ? order by member.rowid", (plan,)
            )
            return [_entry(row) for row in found]

    def events(self, name: str | None = None) -> list[tuple[str, str]]:
        """(job, what happened) in order: taken, done, released, failed, died; of one job or of all."""
        with self._transaction() as rows:
            found = rows.execute("select id, what from event where ? is null or id = ? order by rowid", (name, name))
            return [(row["id"], row["what"]) for row in found]

    def dead(self, name: str) -> list[tuple[str, int]]:
        """(host, process) of the workers that died at the job."""
        with self._transaction() as rows:
            found = rows.execute("select worker from event where id = ? and what = 'died'", (name,)).fetchall()
        parts = [row["worker"].rsplit("-", 2) for row in found]
        return [(host, int(pid)) for host, pid, _ in parts]

    def _reclaim(self, rows: sqlite3.Connection) -> None:
        """Free the jobs of dead workers."""
        for row in rows.execute("select * from job where state = 'running'").fetchall():
            if _alive(self.path.parent, row["token"], row["host"], row["beat"]):
                continue
            over = row["deaths"] + 1 >= DEATHS
            rows.execute(
                "update job set state = ?, token = null, deaths = deaths + 1, line = ? where id = ?",
                (
                    FAILED if over else WAITING,
                    f"its worker died {row['deaths'] + 1} times" if over else None,
                    row["id"],
                ),
            )
            self._note(rows, row["id"], "died", row["token"])
            with suppress(OSError):
                _lock_file(self.path.parent, row["token"]).unlink()

    @staticmethod
    def _note(rows: sqlite3.Connection, name: str, what: str, worker: str) -> None:
        rows.execute("insert into event values(?, ?, ?, ?)", (time.time(), name, what, worker))


def plans(path: Path) -> dict[str, list[Entry]]:
    """The jobs of every plan in a queue's file, which is only read; a job whose worker has died waits.

    Raises: KdvizError for a file that is no queue.
    """
    by_plan: dict[str, list[Entry]] = {}
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("select * from member join job using(id) order by member.rowid").fetchall()
        for row in rows:
            entry = _entry(row)
            lost = entry.state == RUNNING and not _alive(path.parent, row["token"], row["host"], row["beat"])
            by_plan.setdefault(row["plan"], []).append(replace(entry, state=WAITING) if lost else entry)
    except (sqlite3.Error, ValueError, TypeError, IndexError) as error:
        raise KdvizError(f"{path}: not a queue of kdviz table ({error})") from error
    return by_plan


def _entry(row: sqlite3.Row) -> Entry:
    payload = json.loads(row["payload"])
    return Entry(
        row["id"], payload, row["state"], row["after"], row["token"], row["failures"], row["deaths"], row["line"] or ""
    )


class Worker:
    """A worker's identity: a token that no other ever has, and a lock on a file of that name until the process ends.

    Args:
        folder: that of the queue's file.
    """

    def __init__(self, folder: Path) -> None:
        self.host = socket.gethostname()
        self.token = f"{self.host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        path = _lock_file(folder, self.token)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("w")
        _lock(self._stream)

    def close(self) -> None:
        """Give up the identity; its jobs become free."""
        with suppress(OSError):
            _lock_file(Path(self._stream.name).parent.parent, self.token).unlink()
        self._stream.close()


def _lock_file(folder: Path, token: str) -> Path:
    return folder / "workers" / f"{token}.lock"


def _lock(stream: IO[Any]) -> bool:
    """Lock the file for this process; False where another holds it. True on systems without such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _alive(folder: Path, token: str, host: str, beat: float) -> bool:
    """Whether a worker lives: on this host by its lock, on another by its heartbeat."""
    fresh = time.time() - beat < LEASE
    if host != socket.gethostname():
        return fresh
    try:
        import fcntl  # noqa: F401
    except ImportError:
        return fresh
    try:
        with _lock_file(folder, token).open("r+") as stream:
            return not _lock(stream)
    except OSError:
        return False
