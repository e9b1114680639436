"""What a code is worth is told with and without a journal; what only a journal can tell is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hma.cli.main import main


@pytest.mark.parametrize("code", ["XID-79", "xid-79"])
def test_row_is_told_where_no_agent_has_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str) -> None:
    assert main(["explain", code, "--state-dir", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "XID-79: GPU has fallen off the bus" in told.out
    assert f"# no journal at {tmp_path}/journal.db" in told.out
    assert told.err == ""


@pytest.mark.parametrize("what", ["node", "gpu:0000:97:00", "XID-9999"])
def test_what_only_the_journal_knows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert main(["explain", what, "--state-dir", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith(f"hma: no journal at {tmp_path}/journal.db: no agent has run")
