"""Settings of the listener process: environment variables with the prefix SPLITUP_."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from solders.pubkey import Pubkey

from shared.ids import parse_requester
from shared.urls import HttpUrl, HttpUrls, WebsocketUrls


class JournalSettings(BaseSettings):
    """What the operator's commands need, which read the journal beside the listener."""

    model_config = SettingsConfigDict(env_prefix="SPLITUP_", env_ignore_empty=True, frozen=True, extra="ignore")

    journal: Path = Field(
        Path("journal.sqlite"), description="The journal's SQLite file, also for the operator's commands."
    )
    failure_budget_lamports: int = Field(
        5_000_000,
        ge=0,
        description="Lamports a day for the fees of telling failures and refusals; beyond it they are only recorded.",
    )
    newcomer_budget_share: float = Field(
        0.5, ge=0, le=1, description="Share of that budget for requesters without a paid task, together."
    )


class ListenerSettings(JournalSettings):
    """One frozen object, made at start; the table in docs/settings.md is generated from it."""

    keypair: Path = Field(description="Solana CLI JSON key file of this node; only its owner may read it.")
    rpc_url: HttpUrls = Field(
        description="HTTP URLs of Solana RPC endpoints, comma-separated, the preferred one first; two check each other."
    )
    ws_url: WebsocketUrls = Field(
        description="Websocket URLs of the same endpoints, comma-separated, in the same order."
    )
    rpc_requests_per_s: float = Field(
        50.0, gt=0, description="Requests a second that each RPC endpoint is sent at most."
    )
    program_id: str = Field(description="Public key (base58) of the SplitUp program.")
    idl: Path | None = Field(None, description="Anchor IDL of the program; none takes the reference program's.")
    genesis_hash: str | None = Field(
        None,
        description="Genesis hash that the cluster must have; none takes what two endpoints say at the first start.",
    )
    compute_url: HttpUrl = Field("http://127.0.0.1:8750", description="URL of the compute process.")
    token_file: Path = Field(
        description="File with the bearer token that both processes share; only its owner may read it."
    )
    history_days: int = Field(
        90, ge=1, description="Days for which the journal keeps finished tasks, and ledger rows one by one."
    )
    host: str = Field("127.0.0.1", description="Address to listen on for health; beyond loopback only if asked.")
    listener_port: int = Field(
        8740, ge=0, le=65535, description="TCP port of /health and /ready; 0 takes a free one."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of the log lines: debug, info, warning or error."
    )
    submit_commitment: Literal["confirmed", "finalized"] = Field(
        "confirmed", description="Commitment at which an assignment must stand before its result is submitted."
    )
    landing_margin_s: float = Field(
        15.0, ge=0, le=86_400, description="Seconds before the deadline that a result needs to land."
    )
    min_reward_lamports: int = Field(0, ge=0, description="Least reward of an assignment, in lamports.")
    min_lamports_per_compute_unit: float = Field(
        0.0, ge=0, description="Least reward in lamports for each declared compute unit."
    )
    max_compute_units: int = Field(10_000_000, ge=1, description="Most declared compute units of an assignment.")
    max_open_tasks: int = Field(
        1_000,
        ge=1,
        description="Unsigned tasks that one requester may have here; all those who never paid count as one.",
    )
    max_risk_lamports: int | None = Field(
        None,
        ge=1,
        description="Of the same, declared compute units in flight at their least price, in lamports; none is no cap.",
    )
    max_unpaid_a_day: int = Field(
        100,
        ge=1,
        description="Unpaid ends a day, beyond paid ones, that put a requester last; at twice as many it is refused.",
    )
    requester_allowlist: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), description="Comma-separated requesters (base58) that are served; empty serves all."
    )
    requester_blocklist: Annotated[frozenset[str], NoDecode] = Field(
        frozenset(), description="Comma-separated requesters (base58) that are never served."
    )
    priority_fee_micro_lamports: int = Field(
        0, ge=0, description="Priority fee per unit of the chain's compute units, in micro-lamports."
    )
    priority_fee_percentile: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Percentile of recent slots' priority fees that is bid instead; none bids the fixed one.",
    )
    fee_share: float = Field(
        0.2, gt=0, le=1, description="Share of a task's reward that the fees of its submission may cost."
    )
    balance_floor_lamports: int = Field(
        2_000_000, ge=0, description="Balance in lamports below which no new task is taken."
    )
    sweep_address: str | None = Field(
        None, description="Public key (base58) of a cold account that gets what the balance is above a ceiling."
    )
    sweep_above_lamports: int | None = Field(
        None, ge=0, description="That ceiling in lamports, not below the floor; set both or neither."
    )
    compute_unit_limit: int | None = Field(
        None,
        ge=1,
        le=1_400_000,
        description="Limit of the chain's compute units of one submission; none takes a fifth more than it needs.",
    )
    list_interval_s: float = Field(120.0, gt=0, description="Seconds between two listings of the live accounts.")
    backfill_interval_s: float = Field(30.0, gt=0, description="Seconds between two backfills of signatures.")
    first_start_hours: float = Field(
        24.0,
        gt=0,
        description="Hours of signatures read at the first start, where accounts cannot be listed.",
    )
    mention_reads_per_minute: int = Field(
        600,
        ge=1,
        description="Transactions read a minute that mention the node but bring no work; the listing finds the rest.",
    )
    watchdog_silence_s: float = Field(
        15.0, gt=0, description="Seconds without a slot after which the websocket is reopened."
    )
    resend_interval_s: float = Field(
        2.0, gt=0, description="Seconds between two sends of the same signed transaction."
    )
    status_interval_s: float = Field(
        0.4, gt=0, description="Seconds between two questions for signatures' statuses."
    )
    grace_s: float = Field(
        30.0, ge=0, description="Seconds that computed results may take to be submitted after SIGTERM."
    )

    @model_validator(mode="after")
    def _check_pairs(self) -> "ListenerSettings":
        if len(self.rpc_url) != len(self.ws_url):
            raise ValueError(
                f"SPLITUP_RPC_URL names {len(self.rpc_url)} endpoints and SPLITUP_WS_URL {len(self.ws_url)}: "
                "each endpoint needs both, in the same order"
            )
        return self

    @model_validator(mode="after")
    def _check_sweep(self) -> "ListenerSettings":
        if (self.sweep_address is None) != (self.sweep_above_lamports is None):
            raise ValueError("SPLITUP_SWEEP_ADDRESS and SPLITUP_SWEEP_ABOVE_LAMPORTS need each other: set both")
        if self.sweep_above_lamports is not None and self.sweep_above_lamports < self.balance_floor_lamports:
            raise ValueError(
                f"SPLITUP_SWEEP_ABOVE_LAMPORTS is {self.sweep_above_lamports}, below the floor of "
                f"{self.balance_floor_lamports} lamports: what is swept would close the intake"
            )
        return self

    @field_validator("sweep_address")
    @classmethod
    def _check_sweep_address(cls, value: str | None) -> str | None:
        return None if value is None else str(Pubkey.from_string(value))

    @field_validator("requester_allowlist", "requester_blocklist", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(parse_requester(part.strip()) for part in value.split(",") if part.strip())
        return value
