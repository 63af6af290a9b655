"""Settings of the compute process, and of whoever uses the same storage: environment variables, SPLITUP_…"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.messages import RequesterField
from shared.uris import ObjectUri, TensorUri, parse_prefix, parse_tensor_uri

Prefixes = Annotated[tuple[ObjectUri, ...], NoDecode]


def _prefixes(value: object) -> object:
    if isinstance(value, str):
        return tuple(parse_prefix(part.strip()) for part in value.split(",") if part.strip())
    return value


class StorageSettings(BaseSettings):
    """Where objects lie and how they are reached."""

    model_config = SettingsConfigDict(env_prefix="SPLITUP_", env_ignore_empty=True, frozen=True, extra="ignore")

    allowed_prefixes: Prefixes = Field(
        description="Comma-separated s3:// or file:// prefixes below which requesters' folders and `public` lie."
    )
    s3_endpoint_url: str | None = Field(
        None, description="URL of the S3 endpoint; none takes the SDK's own choice."
    )
    s3_region: str = Field("us-east-1", description="Region used for signatures.")
    s3_path_style: bool = Field(True, description="Bucket in the path (true) or in the host name (false).")
    storage_patience_s: float = Field(
        120.0,
        ge=0,
        description="Seconds that a failing storage request is tried again; a deadline cuts it sooner.",
    )

    @property
    def places(self) -> tuple[ObjectUri, ...]:
        """Every prefix that is read or written."""
        return self.allowed_prefixes

    @field_validator("allowed_prefixes", mode="before")
    @classmethod
    def _parse_allowed_prefixes(cls, value: object) -> object:
        return _prefixes(value)


class ComputeSettings(StorageSettings):
    """One frozen object, made at start; the table in docs/settings.md is generated from it."""

    token_file: Path = Field(
        description="File with the bearer token that both processes share; only its owner may read it."
    )
    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback only if asked.")
    compute_port: int = Field(8750, ge=0, le=65535, description="TCP port of the compute API; 0 takes a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of the log lines: debug, info, warning or error."
    )
    state_dir: Path = Field(
        Path("compute-state"), description="Folder for results and the list of created objects."
    )
    output_prefix: Annotated[ObjectUri, NoDecode] = Field(description="Prefix below which outputs are written.")
    model_stores: Prefixes = Field(
        (), description="Comma-separated prefixes searched first for packages, `<hash>.json`."
    )
    catalogue: dict[str, str] = Field(
        {}, description="JSON object: the operator's own model names, each with its hash."
    )
    trust_groups: dict[str, list[RequesterField]] = Field(
        {},
        description="JSON object: name of a group and its requesters (base58), who may read each other's folders.",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|cuda:\d+)$", description="Device to compute on.")
    threads: int = Field(0, ge=0, description="Threads of torch per worker; 0 takes torch's own choice.")
    sandbox: Literal["required", "best-effort", "off"] = Field(
        "required",
        description="Where the kernel cannot lock workers by Landlock and seccomp, compute does not start (required) "
        "or runs with what there is (best-effort). off: no lock, for a device whose driver it does not let through.",
    )
    max_running: int = Field(2, ge=1, le=64, description="Tasks that run at the same time.")
    max_tasks: int = Field(64, ge=1, description="Unfinished tasks held at once; above it POST answers 429.")
    max_in_work: int = Field(
        4,
        ge=1,
        description="Tasks that hold tensors at once: fetched, running or being stored; others are queued.",
    )
    max_compute_units: int = Field(10_000_000, ge=1, description="Largest cost of one task, in compute units.")
    max_input_bytes: int = Field(
        8 << 30,
        ge=1,
        description="Largest sum of one task's inputs, in bytes; an object named by its hash counts whole.",
    )
    max_output_bytes: int = Field(8 << 30, ge=1, description="Largest sum of one task's outputs, in bytes.")
    max_task_bytes: int = Field(
        16 << 30, ge=1, description="Most bytes that one task's inputs and values may hold at once, as inferred."
    )
    weights_cache_bytes: int = Field(
        4 << 30,
        ge=0,
        description="Bytes of weights (objects marked `isWeights`) that stay in memory between tasks, as far as tasks "
        "leave room; one requester's at most half of them. 0: none.",
    )
    device_weights_bytes: int | None = Field(
        None,
        ge=0,
        description="Bytes of those weights that stay on a CUDA device as well, as far as tasks leave room; one "
        "requester's at most half of them. None takes half of what the device has for tasks. 0: none.",
    )
    preload: Annotated[tuple[TensorUri, ...], NoDecode] = Field(
        (), description="Comma-separated TensorUris of weights that are in memory before the first task."
    )
    buffer_pool_bytes: int = Field(
        1 << 30,
        ge=0,
        description="Bytes of memory that stay with the requester whose tasks held them, for his next ones, as far as "
        "other tasks leave room: reading into fresh memory takes more than twice as long. 0: none.",
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description="Most bytes of memory that all tasks hold together; those that do not fit wait. 0 takes what the "
        "machine, or its container, has and others leave.",
    )
    max_header_bytes: int = Field(1 << 20, ge=1024, description="Largest safetensors header, in bytes.")
    max_object_tensors: int = Field(4096, ge=1, description="Most tensors in one safetensors object.")
    max_graph_bytes: int = Field(1 << 20, ge=1024, description="Largest model package, in bytes.")
    max_graph_nodes: int = Field(20_000, ge=1, description="Most nodes of one task graph.")
    plan_limit_s: float = Field(
        20.0, gt=0, description="Seconds that inferring shapes and cost of one task may take."
    )
    run_limit_s: float = Field(
        3600.0, gt=0, description="Seconds that one task may compute; a deadline cuts it sooner."
    )
    probe_interval_s: float = Field(
        10.0, gt=0, description="Seconds between two probes of device, storage and disks, which /ready reports."
    )
    retry_after_s: float = Field(2.0, gt=0, description="Seconds that a 429 asks the listener to wait.")
    result_keep_s: float = Field(
        86_400.0, ge=0, description="Seconds after the deadline that an unacknowledged result is kept."
    )
    grace_s: float = Field(30.0, ge=0, description="Seconds that what runs may take to finish after SIGTERM.")

    @property
    def places(self) -> tuple[ObjectUri, ...]:
        return (self.output_prefix, *self.allowed_prefixes, *self.model_stores)

    @field_validator("preload", mode="before")
    @classmethod
    def _parse_preload(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(parse_tensor_uri(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("model_stores", mode="before")
    @classmethod
    def _parse_model_stores(cls, value: object) -> object:
        return _prefixes(value)

    @field_validator("output_prefix", mode="before")
    @classmethod
    def _parse_output_prefix(cls, value: object) -> object:
        return parse_prefix(value) if isinstance(value, str) else value
