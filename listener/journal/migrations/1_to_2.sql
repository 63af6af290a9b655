-- From version 1 to 2, run in one transaction with foreign keys off. Tables that change are made anew, in the order that
-- SQLite's documentation gives: make the new one, copy, drop the old one, rename.

CREATE TABLE tasks_2 (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    account       TEXT    NOT NULL,
    attempt       INTEGER NOT NULL,
    execution_id  TEXT    NOT NULL,
    task_id       TEXT    NOT NULL,
    requester     TEXT    NOT NULL,
    content_hash  BLOB    NOT NULL,
    model_id      TEXT    NOT NULL,
    input_uris    TEXT    NOT NULL,
    output_count  INTEGER NOT NULL,
    compute_units INTEGER NOT NULL,
    reward        INTEGER NOT NULL,
    deadline      INTEGER NOT NULL,
    refund_at     INTEGER NOT NULL DEFAULT 0,
    verified_slot INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    ends_as       TEXT,
    reason        TEXT,
    result        TEXT,
    owed          TEXT    NOT NULL DEFAULT 'nothing',
    waits_for     TEXT,
    taken_at      INTEGER,
    started_at    INTEGER,
    ended_at      INTEGER,
    UNIQUE (account, attempt)
) STRICT;

INSERT INTO tasks_2 (
    id, account, attempt, execution_id, task_id, requester, content_hash, model_id, input_uris, output_count,
    compute_units, reward, deadline, refund_at, verified_slot, state, ends_as, reason, result, owed
) SELECT
    id, account, attempt, execution_id, task_id, requester, content_hash, model_id, input_uris, output_count,
    compute_units, reward, deadline, refund_at, verified_slot, state, ends_as, reason, result, owed
FROM tasks;

CREATE TABLE outbox_2 (
    id                      INTEGER PRIMARY KEY AUTOINCREMENT,
    task                    INTEGER REFERENCES tasks (id),
    kind                    TEXT    NOT NULL,
    attempt                 INTEGER NOT NULL,
    signature               TEXT    NOT NULL UNIQUE,
    raw                     BLOB,
    last_valid_block_height INTEGER NOT NULL,
    fee                     INTEGER NOT NULL,
    lamports                INTEGER NOT NULL,
    status                  TEXT    NOT NULL,
    superseded              INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    slot                    INTEGER,
    error                   TEXT,
    CHECK ((task IS NULL) = (kind = 'sweep'))
) STRICT;
-- What was signed so far cost at least the base fee; bytes that cannot land any more are of no use.
INSERT INTO outbox_2 (
    id, task, kind, attempt, signature, raw, last_valid_block_height, fee, lamports, status, superseded, slot, error
) SELECT
    id, task, kind, attempt, signature, CASE WHEN status IN ('signed', 'confirmed', 'erred') THEN raw END,
    last_valid_block_height, 5000, 0, status, superseded, slot, error
FROM outbox;

DROP TABLE outbox;
DROP TABLE tasks;
ALTER TABLE tasks_2 RENAME TO tasks;
ALTER TABLE outbox_2 RENAME TO outbox;

CREATE INDEX tasks_by_state ON tasks (state);
CREATE INDEX tasks_by_pair ON tasks (execution_id, task_id);
CREATE INDEX tasks_owing ON tasks (owed) WHERE owed <> 'nothing';
CREATE INDEX tasks_waiting ON tasks (waits_for) WHERE waits_for IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (deadline)
    WHERE owed = 'nothing' AND state IN ('paid', 'failed', 'refused', 'handed_back', 'cancelled', 'missed');
CREATE INDEX outbox_by_task ON outbox (task);
CREATE UNIQUE INDEX outbox_one_live ON outbox (task)
    WHERE superseded = 0 AND status IN ('signed', 'confirmed', 'erred');
CREATE UNIQUE INDEX outbox_one_sweep ON outbox (kind)
    WHERE kind = 'sweep' AND status IN ('signed', 'confirmed', 'erred');
CREATE INDEX outbox_watched ON outbox (status) WHERE status IN ('signed', 'confirmed', 'erred');

CREATE TABLE page_mark (
    only             INTEGER PRIMARY KEY CHECK (only = 1),
    signature        TEXT    NOT NULL,
    slot             INTEGER NOT NULL,
    newest_signature TEXT    NOT NULL,
    newest_slot      INTEGER NOT NULL
) STRICT;
CREATE TABLE gaps (
    id        INTEGER PRIMARY KEY,
    from_slot INTEGER NOT NULL,
    to_slot   INTEGER NOT NULL,
    at        INTEGER
) STRICT;
CREATE INDEX events_by_account ON events (account);
CREATE INDEX events_by_slot ON events (slot);
CREATE TABLE history (
    account       TEXT    NOT NULL,
    attempt       INTEGER NOT NULL,
    execution_id  TEXT    NOT NULL,
    task_id       TEXT    NOT NULL,
    requester     TEXT    NOT NULL,
    model_id      TEXT    NOT NULL,
    compute_units INTEGER NOT NULL,
    reward        INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    reason        TEXT,
    signature     TEXT,
    fees          INTEGER NOT NULL,
    started_at    INTEGER,
    ended_at      INTEGER NOT NULL,
    PRIMARY KEY (account, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_by_pair ON history (execution_id, task_id);
CREATE INDEX history_by_end ON history (ended_at);
CREATE INDEX passed_over_by_slot ON passed_over (slot);
CREATE TABLE ledger (
    id           INTEGER PRIMARY KEY,
    at           INTEGER,
    execution_id TEXT,
    task_id      TEXT,
    attempt      INTEGER,
    requester    TEXT,
    kind         TEXT    NOT NULL,
    lamports     INTEGER NOT NULL,
    forgone      INTEGER NOT NULL DEFAULT 0,
    signature    TEXT,
    entries      INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX ledger_by_time ON ledger (at);
CREATE UNIQUE INDEX ledger_once ON ledger (signature, kind) WHERE signature IS NOT NULL;
CREATE UNIQUE INDEX ledger_one_loss ON ledger (execution_id, task_id, requester, attempt) WHERE kind = 'loss';
CREATE TABLE budgets (
    day   INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    spent INTEGER NOT NULL,
    PRIMARY KEY (day, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE requester_days (
    requester TEXT    NOT NULL,
    day       INTEGER NOT NULL,
    paid      INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    expired   INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    refused   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (requester, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX requester_days_by_day ON requester_days (day);
CREATE TABLE refusals (
    reason    TEXT    NOT NULL,
    requester TEXT    NOT NULL,
    count     INTEGER NOT NULL,
    last_at   INTEGER,
    PRIMARY KEY (reason, requester)
) STRICT, WITHOUT ROWID;
CREATE INDEX refusals_by_time ON refusals (last_at);
CREATE TABLE estimates (
    model_id      TEXT    NOT NULL,
    compute_units INTEGER NOT NULL,
    seconds       REAL    NOT NULL,
    count         INTEGER NOT NULL,
    last_at       INTEGER,
    PRIMARY KEY (model_id, compute_units)
) STRICT, WITHOUT ROWID;
CREATE INDEX estimates_by_time ON estimates (last_at);
CREATE TABLE requests (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT    NOT NULL CHECK (name IN ('skip', 'drain', 'resume')),
    argument TEXT    NOT NULL DEFAULT '',
    asked_at INTEGER NOT NULL,
    state    TEXT    NOT NULL CHECK (state IN ('asked', 'done', 'refused')),
    answer   TEXT
) STRICT;
CREATE INDEX requests_asked ON requests (id) WHERE state = 'asked';
CREATE TABLE conditions (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    since INTEGER
) STRICT, WITHOUT ROWID;
