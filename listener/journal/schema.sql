-- The journal, version 2. user_version is set by database.py once all of this stands. migrations/ leads here from
-- each older version, to the same tables.

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

-- How far back a backfill has read that is not yet at the cursor, and the signature to which the cursor moves when it
-- is. One row at most.
CREATE TABLE page_mark (
    only             INTEGER PRIMARY KEY CHECK (only = 1),
    signature        TEXT    NOT NULL,
    slot             INTEGER NOT NULL,
    newest_signature TEXT    NOT NULL,
    newest_slot      INTEGER NOT NULL
) STRICT;

-- Slots of which no endpoint gave the signatures: the cursor moved over them.
CREATE TABLE gaps (
    id        INTEGER PRIMARY KEY,
    from_slot INTEGER NOT NULL,
    to_slot   INTEGER NOT NULL,
    at        INTEGER          -- Unix seconds by the chain's clock, as every `at` and `…_at` that is not said to differ
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
CREATE INDEX events_by_account ON events (account);
CREATE INDEX events_by_slot ON events (slot);

-- Verified assignments. States and transitions: states.py.
CREATE TABLE tasks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again, also when the row has moved to `history`
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
    deadline      INTEGER NOT NULL,
    refund_at     INTEGER NOT NULL DEFAULT 0, -- 0 unless cancelled
    verified_slot INTEGER NOT NULL,           -- newest slot at which the account was seen as this row says
    state         TEXT    NOT NULL,
    ends_as       TEXT,                       -- the state that a finalized submission leads to
    reason        TEXT,
    result        TEXT,                       -- TaskResult as JSON
    owed          TEXT    NOT NULL DEFAULT 'nothing', -- to compute, see states.Owed
    waits_for     TEXT,                       -- why it does not go on, see states.WaitsFor
    taken_at      INTEGER,                    -- when it was accepted or refused
    started_at    INTEGER,                    -- when compute took it
    ended_at      INTEGER,                    -- NULL while it is open
    UNIQUE (account, attempt)
) STRICT;
CREATE INDEX tasks_by_state ON tasks (state);
CREATE INDEX tasks_by_pair ON tasks (execution_id, task_id);
CREATE INDEX tasks_owing ON tasks (owed) WHERE owed <> 'nothing';
CREATE INDEX tasks_waiting ON tasks (waits_for) WHERE waits_for IS NOT NULL;
-- Those that may move to `history` once their deadline is past.
CREATE INDEX tasks_finished ON tasks (deadline)
    WHERE owed = 'nothing' AND state IN ('paid', 'failed', 'refused', 'handed_back', 'cancelled', 'missed');

-- Signed transactions: stored before they are sent, kept as long as their task.
CREATE TABLE outbox (
    id                      INTEGER PRIMARY KEY AUTOINCREMENT,
    task                    INTEGER REFERENCES tasks (id), -- NULL for a sweep
    kind                    TEXT    NOT NULL, -- states.SubmissionKind
    attempt                 INTEGER NOT NULL, -- 0 for a sweep
    signature               TEXT    NOT NULL UNIQUE,
    raw                     BLOB,             -- NULL once it has ended
    last_valid_block_height INTEGER NOT NULL,
    fee                     INTEGER NOT NULL, -- lamports: what it costs where it lands
    lamports                INTEGER NOT NULL, -- that it carries away besides: swept, or added to the account's rent
    status                  TEXT    NOT NULL, -- states.OutboxStatus
    superseded              INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)),
    slot                    INTEGER,          -- where it landed
    error                   TEXT,
    CHECK ((task IS NULL) = (kind = 'sweep'))
) STRICT;
CREATE INDEX outbox_by_task ON outbox (task);
-- A task has at most one signed transaction that may still land and counts.
CREATE UNIQUE INDEX outbox_one_live ON outbox (task)
    WHERE superseded = 0 AND status IN ('signed', 'confirmed', 'erred');
-- So has the node's balance.
CREATE UNIQUE INDEX outbox_one_sweep ON outbox (kind)
    WHERE kind = 'sweep' AND status IN ('signed', 'confirmed', 'erred');
CREATE INDEX outbox_watched ON outbox (status) WHERE status IN ('signed', 'confirmed', 'erred');

-- Finished tasks: nothing is owed, no signature is watched, the deadline is past.
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
    signature     TEXT,             -- the one that ended it
    fees          INTEGER NOT NULL, -- lamports, of all its signatures that landed
    started_at    INTEGER,
    ended_at      INTEGER NOT NULL, -- the deadline where it is not known
    PRIMARY KEY (account, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_by_pair ON history (execution_id, task_id);
CREATE INDEX history_by_end ON history (ended_at);

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
CREATE INDEX passed_over_by_slot ON passed_over (slot);

-- What came and went: the sum of `lamports` is the change of the node's balance.
CREATE TABLE ledger (
    id           INTEGER PRIMARY KEY,
    at           INTEGER,
    execution_id TEXT,
    task_id      TEXT,
    attempt      INTEGER,
    requester    TEXT,
    kind         TEXT    NOT NULL,           -- states.LedgerKind
    lamports     INTEGER NOT NULL,           -- negative where they are spent
    forgone      INTEGER NOT NULL DEFAULT 0, -- of a loss: the reward that was not paid
    signature    TEXT,
    entries      INTEGER NOT NULL DEFAULT 1  -- more than one where old rows were added up
) STRICT;
CREATE INDEX ledger_by_time ON ledger (at);
-- Each signature's fee, reward and rent are booked once, and each attempt's loss.
CREATE UNIQUE INDEX ledger_once ON ledger (signature, kind) WHERE signature IS NOT NULL;
CREATE UNIQUE INDEX ledger_one_loss ON ledger (execution_id, task_id, requester, attempt) WHERE kind = 'loss';

-- What was spent of each daily budget: lamports, or a number. A day is the Unix time by the chain's clock / 86,400.
CREATE TABLE budgets (
    day   INTEGER NOT NULL,
    name  TEXT    NOT NULL,
    spent INTEGER NOT NULL,
    PRIMARY KEY (day, name)
) STRICT, WITHOUT ROWID;

-- How each requester's tasks ended, by day.
CREATE TABLE requester_days (
    requester TEXT    NOT NULL,
    day       INTEGER NOT NULL,
    paid      INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    expired   INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0, -- after their start
    refused   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (requester, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX requester_days_by_day ON requester_days (day);

-- What the rules refused.
CREATE TABLE refusals (
    reason    TEXT    NOT NULL,
    requester TEXT    NOT NULL,
    count     INTEGER NOT NULL,
    last_at   INTEGER,
    PRIMARY KEY (reason, requester)
) STRICT, WITHOUT ROWID;
CREATE INDEX refusals_by_time ON refusals (last_at);

-- How long a computation takes: the mean of `count` runs. Model and declared units stand for the shapes.
CREATE TABLE estimates (
    model_id      TEXT    NOT NULL,
    compute_units INTEGER NOT NULL,
    seconds       REAL    NOT NULL,
    count         INTEGER NOT NULL,
    last_at       INTEGER,
    PRIMARY KEY (model_id, compute_units)
) STRICT, WITHOUT ROWID;
CREATE INDEX estimates_by_time ON estimates (last_at);

-- What commands ask the listener for: the only table that they write.
CREATE TABLE requests (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name     TEXT    NOT NULL CHECK (name IN ('skip', 'drain', 'resume')), -- states.RequestName
    argument TEXT    NOT NULL DEFAULT '',
    asked_at INTEGER NOT NULL, -- Unix seconds by the machine's clock: a command knows no other
    state    TEXT    NOT NULL CHECK (state IN ('asked', 'done', 'refused')), -- states.RequestState
    answer   TEXT
) STRICT;
CREATE INDEX requests_asked ON requests (id) WHERE state = 'asked';

-- What holds for the whole node until it is changed: intake closed, halted and why.
CREATE TABLE conditions (
    name  TEXT PRIMARY KEY, -- states.ConditionName
    value TEXT NOT NULL,
    since INTEGER
) STRICT, WITHOUT ROWID;
