"""However the files are damaged: no crash, no state that is healthier than what was written, no loss that is not told."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hma.journal import Journal, JournalError
from hma.journal_copy import COPY_NAME
from hma.journal_read import last_known, open_readonly
from hma.journal_records import Commit, Cursor, Snapshot
from tests.journal_values import BOOT, UTC, event, fault, past, verdict

DATABASE, LOG = "journal.db", "journal.db-wal"
SEEDS_PER_KIND = 10

Damage = Callable[[bytearray, random.Random], None]


def one_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def many_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randrange(2, 60)):
        one_bit(data, chance)


def one_byte_of_text(data: bytearray, chance: random.Random) -> None:
    """Change a byte in the middle of a row, where no structure of SQLite notices."""
    places = [at for at in range(len(data)) if 32 <= data[at] < 127]
    data[chance.choice(places)] = chance.randrange(256)


def torn(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def zeros(data: bytearray, chance: random.Random) -> None:
    at, length = chance.randrange(len(data)), chance.choice((1, 16, 512, 4096))
    data[at : at + length] = bytes(len(data[at : at + length]))


def sectors_swapped(data: bytearray, chance: random.Random) -> None:
    first, second = (512 * chance.randrange(max(1, len(data) // 512)) for _ in range(2))
    data[first : first + 512], data[second : second + 512] = data[second : second + 512], data[first : first + 512]


def page_of_before(data: bytearray, chance: random.Random) -> None:
    """Let a write have gone to the wrong place: one page is a copy of another."""
    first, second = (4096 * chance.randrange(max(1, len(data) // 4096)) for _ in range(2))
    data[first : first + 4096] = data[second : second + 4096]


def garbage_behind(data: bytearray, chance: random.Random) -> None:
    data += chance.randbytes(chance.randrange(1, 9000))


KINDS: tuple[Damage, ...] = (one_bit, many_bits, one_byte_of_text, torn, zeros, sectors_swapped, page_of_before, garbage_behind)
FILES = ((DATABASE,), (LOG,), (COPY_NAME,), (DATABASE, LOG), (DATABASE, COPY_NAME), (LOG, COPY_NAME))


def commits() -> list[Commit]:
    """Return a life: faults come, one goes, one ends as a past; events all the while."""
    return [
        Commit({fault(n).key: fault(n)}, verdict=verdict(n, n), cursors={"kernel": Cursor(BOOT, n)}, events=(event(n),))
        for n in range(1, 5)
    ] + [
        Commit(
            {fault(4).key: None}, (past(4),), verdict(5, 1, 2, 3), {"kernel": Cursor(BOOT, 5)}, {"gpu:GPU-1": "gpu:0000:01:00"}
        ),
        Commit(
            {fault(5).key: fault(5)}, verdict=verdict(6, 5), cursors={"kernel": Cursor(BOOT, 6)}, events=(event(5), event(6))
        ),
    ]


@pytest.fixture(scope="session", params=["log full", "log empty"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    """Return the files as a sudden end of power leaves them, and what they hold."""
    made, kept = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("kept")
    journal = Journal(made / DATABASE, lambda: UTC)
    for number, one in enumerate(commits()):
        journal.commit(one)
        if number == 2:
            journal.prune(UTC, 1e9, 1 << 30)  # moves what is in the log into the database
    journal.tidy()
    if request.param == "log empty":
        journal.close()
    for name in (DATABASE, LOG, COPY_NAME):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(made / name, kept / name)
    with contextlib.suppress(OSError):
        journal.close()
    again = Journal(made / DATABASE)
    held = again.load()
    again.close()
    assert held.state is not None
    assert len(held.state.faults) == 4
    return kept, held


def damaged(sound: Path, place: Path, names: tuple[str, ...], kind: Damage, seed: int) -> bool:
    """Lay damaged files at `place`; return whether anything was there to damage."""
    shutil.copytree(sound, place)
    done = False
    for name in names:
        file = place / name
        if file.exists() and file.stat().st_size:
            data = bytearray(file.read_bytes())
            kind(data, random.Random(f"{kind.__name__} {name} {seed}"))
            done |= bytes(data) != file.read_bytes()
            file.write_bytes(data)
    return done


def looked_at(path: Path) -> None:
    """Read as `hma events` does, which may fail in one way only."""
    for read in (lambda: last_known(path), lambda: everything(path)):
        with contextlib.suppress(JournalError):
            read()


def everything(path: Path) -> None:
    with contextlib.closing(open_readonly(path)) as reader:
        reader.truth()
        reader.events()
        reader.unemitted()


def judged(found: Snapshot, held: Snapshot) -> list[str]:
    """Return what was lost without a word."""
    assert held.state is not None
    if found.notes:
        return []
    if found.state is None:
        return ["everything"]
    lost = [str(key) for key, live in held.state.faults.items() if found.state.faults.get(key) != live]
    lost += ["verdict"] * (found.state.verdict != held.state.verdict)
    lost += ["history"] * (found.state.history != held.state.history)
    lost += ["aliases"] * (found.state.aliases != held.state.aliases)
    lost += ["cursor"] * (found.cursors != held.cursors)
    return lost + [kept.id for kept in held.unemitted if kept not in found.unemitted]


@pytest.mark.parametrize("names", FILES, ids="+".join)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_is_survived_and_loss_is_told(
    sound: tuple[Path, Snapshot], tmp_path: Path, names: tuple[str, ...], kind: Damage
) -> None:
    kept, held = sound
    for seed in range(SEEDS_PER_KIND):
        place = tmp_path / str(seed)
        if not damaged(kept, place, names, kind, seed):
            continue
        path = place / DATABASE
        looked_at(path)
        journal = Journal(path, lambda: UTC)
        found = journal.load()
        assert judged(found, held) == [], f"seed {seed}"
        assert made_up(found, held) == [], f"seed {seed}"
        # What was found goes on as any journal does.
        journal.commit(Commit({fault(9).key: fault(9)}, events=(event(9),)))
        journal.close()
        again = Journal(path)
        assert fault(9).key in (again.load().state or pytest.fail("nothing was kept")).faults
        assert again.notes == ()
        again.close()


def made_up(found: Snapshot, held: Snapshot) -> list[str]:
    """Return what was never written."""
    ever = {live.key: live for one in commits() for live in one.faults.values() if live is not None}
    wrong = [str(key) for key, live in (found.state.faults if found.state else {}).items() if ever.get(key) != live]
    return wrong + [kept.id for kept in found.unemitted if kept not in held.unemitted]


@pytest.mark.parametrize("names", [(DATABASE,), (LOG,), (COPY_NAME,), (DATABASE, LOG), (LOG, COPY_NAME), (DATABASE, COPY_NAME)])
def test_missing_file_is_survived_and_loss_is_told(
    sound: tuple[Path, Snapshot], tmp_path: Path, names: tuple[str, ...]
) -> None:
    kept, held = sound
    place = tmp_path / "place"
    shutil.copytree(kept, place)
    there = [name for name in names if (place / name).exists()]
    for name in there:
        (place / name).unlink()
    journal = Journal(place / DATABASE)
    found = journal.load()
    journal.close()
    if any((kept / name).exists() and name not in there for name in (DATABASE, LOG, COPY_NAME)):
        assert judged(found, held) == []
    else:
        assert found == Snapshot(None), "all files gone is a new node"


def test_sound_files_are_judged_sound(sound: tuple[Path, Snapshot], tmp_path: Path) -> None:
    """Else the others prove nothing."""
    kept, held = sound
    shutil.copytree(kept, tmp_path / "place")
    journal = Journal(tmp_path / "place" / DATABASE)
    found = journal.load()
    journal.close()
    assert found == held
    assert found.notes == ()
    assert judged(Snapshot(None), held) == ["everything"]
    assert judged(Snapshot(found.state, found.cursors), held) == [kept.id for kept in held.unemitted]


@pytest.mark.parametrize("at", [18, 19])
def test_header_that_would_pass_for_read_only_is_damage(tmp_path: Path, at: int) -> None:
    """SQLite takes a version above 2 in these bytes for a file that may not be written, whose mend would be a wrong one."""
    with contextlib.closing(Journal(tmp_path / DATABASE)) as journal:
        journal.commit(commits()[0])
    data = bytearray((tmp_path / DATABASE).read_bytes())
    data[at] = 9
    (tmp_path / DATABASE).write_bytes(data)
    with contextlib.closing(Journal(tmp_path / DATABASE)) as journal:
        snapshot = journal.load()
    assert "is damaged: no SQLite header" in snapshot.notes[0]
    assert snapshot.state is not None


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"]
)
@pytest.mark.parametrize("name", [DATABASE, COPY_NAME])
def test_what_is_no_file_is_moved_aside_and_never_waited_for(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    with contextlib.closing(Journal(tmp_path / DATABASE)) as journal:
        journal.commit(commits()[0])
    (tmp_path / name).unlink()
    make(tmp_path / name)
    if name == DATABASE:
        with pytest.raises(JournalError, match="is no regular file; mend: move it away"):
            open_readonly(tmp_path / DATABASE)
    assert last_known(tmp_path / DATABASE).state is not None
    with contextlib.closing(Journal(tmp_path / DATABASE)) as journal:
        snapshot = journal.load()
    assert snapshot.state is not None
    assert len(snapshot.state.faults) == 1
    assert "no regular file" in snapshot.notes[0]
    assert list(tmp_path.glob(f"{name}.corrupt-*")) != []
