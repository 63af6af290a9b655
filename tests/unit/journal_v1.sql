-- The journal. user_version is set by database.py once all of this stands.

-- What this journal belongs to: genesis hash, node, program.
CREATE TABLE identity (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- The newest finalized signature up to which the chain was read. One row at most.
CREATE TABLE cursor (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    signature TEXT    NOT NULL,
    slot      INTEGER NOT NULL
) STRICT;

-- Each event of the program once. The same event in another slot (a fork) moves its row.
CREATE TABLE events (
    signature   TEXT    NOT NULL,
    event_index INTEGER NOT NULL,
    slot        INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    account     TEXT    NOT NULL,
    PRIMARY KEY (signature, event_index)
) STRICT, WITHOUT ROWID;

-- Verified assignments. States and transitions: states.py.
CREATE TABLE tasks (
    id            INTEGER PRIMARY KEY,
    account       TEXT    NOT NULL,
    attempt       INTEGER NOT NULL,
    execution_id  TEXT    NOT NULL,
    task_id       TEXT    NOT NULL,
    requester     TEXT    NOT NULL,
    content_hash  BLOB    NOT NULL,
    model_id      TEXT    NOT NULL,
    input_uris    TEXT    NOT NULL,           -- JSON list
    output_count  INTEGER NOT NULL,
    compute_units INTEGER NOT NULL,
    reward        INTEGER NOT NULL,           -- lamports
    deadline      INTEGER NOT NULL,           -- Unix seconds by the chain's clock
    refund_at     INTEGER NOT NULL DEFAULT 0, -- the same; 0 unless cancelled
    verified_slot INTEGER NOT NULL,           -- newest slot at which the account was seen as this row says
    state         TEXT    NOT NULL,
    ends_as       TEXT,                       -- the state that a finalized submission leads to
    reason        TEXT,
    result        TEXT,                       -- TaskResult as JSON
    owed          TEXT    NOT NULL DEFAULT 'nothing', -- to compute, see states.Owed
    UNIQUE (account, attempt)
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state);
CREATE INDEX tasks_owing ON tasks (owed) WHERE owed <> 'nothing';

-- Signed transactions: stored before they are sent, kept for good.
CREATE TABLE outbox (
    id                      INTEGER PRIMARY KEY,
    task                    INTEGER NOT NULL REFERENCES tasks (id),
    kind                    TEXT    NOT NULL, -- task_completed, task_failed
    attempt                 INTEGER NOT NULL,
    signature               TEXT    NOT NULL UNIQUE,
    raw                     BLOB    NOT NULL,
    last_valid_block_height INTEGER NOT NULL,
    status                  TEXT    NOT NULL, -- states.OutboxStatus
    superseded              INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    slot                    INTEGER,          -- where it landed
    error                   TEXT
) STRICT;
-- A task has at most one signed transaction that may still land and counts.
CREATE UNIQUE INDEX outbox_one_live ON outbox (task)
    WHERE superseded = 0 AND status IN ('signed', 'confirmed', 'erred');
CREATE INDEX outbox_watched ON outbox (status) WHERE status IN ('signed', 'confirmed', 'erred');

-- SHA-256 of pair and requester of each completion that is finalized: never run again.
CREATE TABLE completed (
    pair_hash BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Accounts that are no work of ours, so that no listing reads them again.
CREATE TABLE passed_over (
    account TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    slot    INTEGER NOT NULL,
    reason  TEXT    NOT NULL,
    PRIMARY KEY (account, attempt)
) STRICT, WITHOUT ROWID;
