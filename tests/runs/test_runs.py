"""A run's folder is complete or absent, and the ledger exports the paper's log byte for byte."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daelab._util.files import replace_file, write_text
from daelab.experiments.reports.ledger import make_ledger_table
from daelab.runs.environment import write_environment
from daelab.runs.folder import METRIC_COLUMNS, choose_run_name, get_run_folder
from daelab.runs.ledger import PAPER_COLUMNS, Ledger
from daelab.runs.process_lock import describe_process

HEADER = (
    "test_id,batch_size,learning_rate,epochs,amsgrad,Val Loss,Val PSNR,Val F1,"
    "Train Size,Val Size,weight_decay,beta_1,beta_2,Comments\n"
)
# as the paper's log looks, with other values, and with what a careless hand may put in
LOG = HEADER + (
    "1,32,0.0001,400,False,0.0061234567890123,22.123456789012,,45000,5000,0.0,0.9,0.999,\n"
    "2,64,0.01,200,True,0.1,20.0,0.4375,20000,5000,0.005,0.5,0.99,norm after each layer\n"
    '7,512,0.1,600,False,0.0033,24.5,,20000,5000,0.0,0.0,0.0,"SGD, momentum 0.5"\n'
    '9,16,5e-05,1,False,,,,20000,5000,0.0,0.9,0.999,"she said ""better"" – και όμως"\n'
)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def write(tmp_path: Path, text: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


# The ledger


def test_the_papers_log_comes_out_byte_for_byte(ledger: Ledger, tmp_path: Path) -> None:
    path = write(tmp_path, LOG)
    assert ledger.import_csv(path) == 4
    assert ledger.export_csv() == LOG
    before = ledger.list_runs()
    assert ledger.import_csv(path) == 4
    assert ledger.list_runs() == before


def test_the_published_log_comes_out_byte_for_byte(ledger: Ledger, paper: Path) -> None:
    assert ledger.import_csv(paper / "tests_fully.csv") == 38
    assert ledger.export_csv().encode() == (paper / "tests_fully.csv").read_bytes()


def test_what_is_imported_has_types(ledger: Ledger, tmp_path: Path) -> None:
    ledger.import_csv(write(tmp_path, LOG), prefix="paper")
    row = ledger.get_run("paper-2")
    assert (row["test_id"], row["learning_rate"], row["amsgrad"], row["val_f1"]) == (2, 0.01, True, 0.4375)
    assert (row["status"], row["comments"]) == ("imported", "norm after each layer")
    assert ledger.get_run("paper-1")["val_f1"] is None
    assert [row["name"] for row in ledger.list_runs()] == ["paper-1", "paper-2", "paper-7", "paper-9"]


GOOD = "1,32,0.1,4,False,0.1,22.1,,45,5,0.0,0.9,0.999,"
WRONG = {
    "no header": (GOOD, "line 1 must name the columns test_id,batch_size,"),
    "nothing": ("", "line 1 must name the columns"),
    "a column too few": (HEADER + GOOD + "\n1,2\n", "line 3 must have 14 cells"),
    "a column too many": (HEADER + GOOD + ",x\n", "line 2 must have 14 cells"),
    "no number": (HEADER + GOOD.replace("0.1,4", "fast,4"), "line 2, learning_rate: cannot read 'fast'"),
    "no truth": (HEADER + GOOD.replace("False", "no"), "line 2, amsgrad: cannot read 'no'"),
    "no whole number": (HEADER + GOOD.replace("32", "32.5"), "line 2, batch_size: cannot read '32.5'"),
    "a huge number": (HEADER + GOOD.replace("32", str(2**63)), "line 2, batch_size: cannot read '9223372036854775808'"),
    "no id": (HEADER + GOOD.removeprefix("1"), "line 2 has no test_id"),
    "a huge cell": (HEADER + GOOD + "x" * 200_000, "field larger than field limit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_log_is_named_and_nothing_is_imported(case: str, ledger: Ledger, tmp_path: Path) -> None:
    text, message = WRONG[case]
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        ledger.import_csv(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert ledger.list_runs() == []


def test_a_log_that_is_no_text(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"log\.csv: not a text file in UTF-8"):
        ledger.import_csv(tmp_path / "log.csv")


def test_a_run_is_one_row_that_changes(ledger: Ledger) -> None:
    ledger.record("a", status="running", epochs=3, recipe={"seed": 1})
    ledger.record("b", status="running")
    ledger.record("a", status="finished", val_loss=0.1 + 0.2)
    assert [(row["name"], row["status"]) for row in ledger.list_runs()] == [("a", "finished"), ("b", "running")]
    row = Ledger().get_run("a")
    assert (row["epochs"], row["recipe"], row["val_loss"]) == (3, {"seed": 1}, 0.1 + 0.2)
    assert row["started"].endswith("+00:00")


def test_our_runs_are_exported_in_the_papers_columns(ledger: Ledger) -> None:
    assert ledger.export_csv() == HEADER
    ledger.record("a", status="finished", learning_rate=1e-4, amsgrad=False, comments="x,y")
    assert ledger.export_csv() == HEADER + ',,0.0001,,False,,,,,,,,,"x,y"\n'


def test_an_unknown_run_gives_the_nearest(ledger: Ledger) -> None:
    ledger.record("model-c", status="running")
    with pytest.raises(ValueError, match="unknown run 'model-d'; did you mean 'model-c'. Valid: model-c"):
        ledger.get_run("model-d")


def test_where_the_ledger_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ledger().url == f"sqlite:///{tmp_path}/runs/ledger.db"
    monkeypatch.setenv("DAELAB_LEDGER", f"sqlite:///{tmp_path}/deep/er/l.db")
    Ledger().record("a", status="running")
    assert (tmp_path / "deep/er/l.db").is_file()
    assert Ledger(f"sqlite:///{tmp_path}/l2.db").list_runs() == []


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "l.db").write_text("no database, but a text that is long enough to be looked at" * 30)
    for url, message in [
        (f"sqlite:///{tmp_path}/l.db", "file is not a database"),
        ("nonesuch://x", "unknown kind of database 'nonesuch'; write sqlite:///FILE or postgresql://USER@HOST/NAME"),
        ("no url", "ledger no url: this is not the URL of a database; write sqlite:///FILE or postgresql://"),
        ("postgresql://host:port/x", "this is not the URL of a database; write"),
        ("sqlite://", "a SQLite file (sqlite:///FILE) or PostgreSQL is needed"),
        ("sqlite:///:memory:", "a SQLite file (sqlite:///FILE) or PostgreSQL is needed"),
        (f"sqlite:///{tmp_path}", "unable to open database file"),
    ]:
        with pytest.raises(ValueError) as caught:
            Ledger(url)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def change(ledger: Ledger, statement: str, *values: object) -> None:
    """Change a ledger as another program would."""
    with sqlite3.connect(ledger.url.removeprefix("sqlite:///")) as connection:
        connection.execute(statement, values)
    connection.close()


FOREIGN = {
    "a newer version": ("UPDATE daelab_schema SET version = 3", "schema 3 needs a newer daelab; this version knows"),
    "version 0": ("UPDATE daelab_schema SET version = 0", "its schema is '0', not one that daelab has written"),
    "a text": ("UPDATE daelab_schema SET version = 'two'", "its schema is 'two', not one that daelab has written"),
    "no version": ("DELETE FROM daelab_schema", "its schema is 'None', not one that daelab has written"),
    "no table of versions": ("DROP TABLE daelab_schema", "its tables were made by another program"),
    "another table of versions": (
        "ALTER TABLE daelab_schema RENAME COLUMN version TO v",
        "its tables were made by another program; name another database",
    ),
    "no table of runs": ("DROP TABLE runs", "the column amsgrad of its table runs is missing"),
    "another table of runs": ("ALTER TABLE runs RENAME COLUMN name TO title", "the column name of its table runs is"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_ledger_that_this_version_did_not_write_is_refused_and_not_changed(case: str, ledger: Ledger) -> None:
    statement, message = FOREIGN[case]
    change(ledger, statement)
    before = Path(ledger.url.removeprefix("sqlite:///")).read_bytes()
    with pytest.raises(ValueError) as caught:
        Ledger()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Path(ledger.url.removeprefix("sqlite:///")).read_bytes() == before


def test_the_runs_of_another_program_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (run_uuid VARCHAR, name VARCHAR)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="its tables were made by another program; name another database"):
        Ledger(f"sqlite:///{path}")
    assert path.read_bytes() == before


SPOILT = {
    "val_loss": "much",
    "epochs": 1.5,
    "epochs_done": "many",
    "pid": "me",
    "amsgrad": 7,
    "recipe": "{",
    "comments": b"\xff",
    "images_per_second": b"\x00",
}


@pytest.mark.parametrize("column", SPOILT)
def test_a_row_that_another_program_spoilt_hides_no_other(column: str, ledger: Ledger) -> None:
    ledger.record("a", status="running", **describe_process(), recipe={"seed": 1})
    ledger.record("b", status="finished", val_loss=0.5)
    good = ledger.get_run("b")
    change(ledger, f"UPDATE runs SET {column} = ? WHERE name = 'a'", SPOILT[column])
    assert ledger.mark_dead_runs() == []
    bad, other = ledger.list_runs()
    assert other == good
    assert bad == ledger.get_run("a")
    assert bad["reason"] == f"unreadable in the ledger: {column}."
    assert bad[column] in (None, 0, "b'\\xff'")
    assert "a" in make_ledger_table([bad, other]).to_text()
    assert ledger.export_csv().count("\n") == 3


def test_a_text_that_is_not_utf8_is_shown_with_marks(ledger: Ledger) -> None:
    ledger.record("a", status="finished")
    ledger.record("b", status="finished")
    change(ledger, "UPDATE runs SET comments = CAST(x'61ff62' AS TEXT) WHERE name = 'a'")
    assert [row["comments"] for row in ledger.list_runs()] == ["a\ufffdb", ""]


# what the first version made, word for word
SCHEMA_1 = """
CREATE TABLE daelab_schema (version INTEGER NOT NULL);
CREATE TABLE runs (
    id INTEGER NOT NULL, test_id INTEGER, batch_size INTEGER, learning_rate FLOAT, epochs INTEGER, amsgrad BOOLEAN,
    val_loss FLOAT, val_psnr FLOAT, val_f1 FLOAT, train_size INTEGER, val_size INTEGER, weight_decay FLOAT,
    beta_1 FLOAT, beta_2 FLOAT, comments VARCHAR NOT NULL, name VARCHAR NOT NULL, status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL, started VARCHAR NOT NULL, finished VARCHAR, epochs_done INTEGER NOT NULL,
    val_psnr_image FLOAT, architecture VARCHAR, parameters INTEGER, noise VARCHAR, optimiser VARCHAR, seed INTEGER,
    precision VARCHAR, seconds FLOAT, images_per_second FLOAT, folder VARCHAR, recipe JSON, recipe_sha256 VARCHAR,
    PRIMARY KEY (id), UNIQUE (name)
);
INSERT INTO daelab_schema VALUES (1);
INSERT INTO runs (test_id, learning_rate, comments, name, status, reason, started, epochs_done, recipe)
    VALUES (7, 0.1, 'x', 'old', 'finished', '', '2026-01-01T00:00:00+00:00', 3, '{"seed": 4}');
"""


def test_a_ledger_of_the_first_version_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA_1)
    connection.close()
    ledger = Ledger(f"sqlite:///{path}")
    row = ledger.get_run("old")
    assert (row["test_id"], row["learning_rate"], row["recipe"], row["host"]) == (7, 0.1, {"seed": 4}, None)
    ledger.record("new", status="running", **describe_process())
    assert ledger.mark_dead_runs() == []
    again = Ledger(f"sqlite:///{path}")
    assert [row["name"] for row in again.list_runs()] == ["old", "new"]
    assert again.get_run("new")["pid"] == os.getpid()


def test_a_run_of_a_dead_process_is_interrupted(ledger: Ledger) -> None:
    code = (
        "import os, signal; from daelab.runs.ledger import Ledger;"
        "from daelab.runs.process_lock import describe_process;"
        "Ledger().record('dead', status='running', **describe_process()); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == -9
    here = describe_process()
    ledger.record("alive", status="running", **here)
    ledger.record("elsewhere", status="running", **here | {"host": "another", "pid": 2**22})
    ledger.record("reused", status="running", **here | {"born": "1+1"})
    ledger.record("older", status="running")
    assert ledger.mark_dead_runs() == ["dead", "reused"]
    assert ledger.mark_dead_runs() == []
    status = {row["name"]: row["status"] for row in ledger.list_runs()}
    assert status == dict.fromkeys(("dead", "reused"), "interrupted") | dict.fromkeys(
        ("alive", "elsewhere", "older"), "running"
    )
    assert "died; resume the run with" in ledger.get_run("dead")["reason"]


def test_many_threads_write_one_ledger(ledger: Ledger) -> None:
    def work(number: int) -> None:
        mine = Ledger()
        for epoch in range(5):
            mine.record(f"run-{number}", status="running", epochs_done=epoch)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    rows = sorted((row["name"], row["epochs_done"]) for row in ledger.list_runs())
    assert rows == [(f"run-{n}", 4) for n in range(8)]


def test_many_processes_make_one_ledger() -> None:
    code = "import sys; from daelab.runs.ledger import Ledger; Ledger().record(sys.argv[1], status='running')"
    started = [subprocess.Popen([sys.executable, "-c", code, f"run-{n}"]) for n in range(4)]
    assert [process.wait(120) for process in started] == [0] * 4
    assert sorted(row["name"] for row in Ledger().list_runs()) == [f"run-{n}" for n in range(4)]


def test_the_papers_columns_are_its_header() -> None:
    assert ",".join(PAPER_COLUMNS) + "\n" == HEADER


# A run's folder


def test_metrics_survive(tmp_path: Path) -> None:
    run = get_run_folder("a")
    assert run.path == tmp_path / "runs" / "a"
    assert run.read_metrics() == []
    rows = [dict.fromkeys(METRIC_COLUMNS, 0.1 + number) for number in range(3)]
    run.write_metrics(rows)
    assert run.read_metrics() == rows
    assert run.metrics.read_text().splitlines()[0] == ",".join(METRIC_COLUMNS)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", ".x", "a\n", "é", "x" * 101])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="run name .*: use letters, digits"):
        get_run_folder(name)


def test_free_names_count_up(tmp_path: Path) -> None:
    assert choose_run_name("paper/38") == "paper-38-1"
    (tmp_path / "runs" / "paper-38-1").mkdir(parents=True)
    assert choose_run_name("paper/38") == "paper-38-2"
    assert choose_run_name("../..") == "run-1"
    assert get_run_folder(choose_run_name("é" * 300)).name


def test_the_environment_says_what_a_result_depends_on() -> None:
    run = get_run_folder("a")
    write_environment(run)
    found = json.loads(run.environment.read_text())
    assert set(found) == {
        *("versions", "platform", "processor", "cores", "threads", "processes", "group", "gpu", "git_commit")
    }
    assert {"daelab", "python", "torch", "numpy"} <= set(found["versions"])


# Whole files


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "é\n")
    assert path.read_text(encoding="utf-8") == "é\n"
    with pytest.raises(RuntimeError), replace_file(path) as part:
        part.write_text("half")
        assert part.suffix == ".txt"
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "é\n"
    assert list(path.parent.iterdir()) == [path]


def test_who_reads_a_file_while_it_is_replaced_reads_the_old_one_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with (tmp_path / "a").open() as reader:
        write_text(tmp_path / "a", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a").read_text() == "new"


def test_a_file_has_the_rights_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
