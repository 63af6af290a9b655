"""Settings of the requester's commands: environment variables with the prefix SPLITUP_."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from compute.settings import StorageSettings
from shared.uris import ObjectUri, parse_prefix
from shared.urls import HttpUrl


class RequesterSettings(StorageSettings):
    """One frozen object, made at the start of a command; the table in docs/settings.md is generated from it."""

    requester_keypair: Path = Field(
        description="Solana CLI JSON key file that signs assignments and pays rewards; only its owner may read it."
    )
    rpc_url: HttpUrl = Field(description="HTTP URL of the Solana RPC endpoint.")
    program_id: str = Field(description="Public key (base58) of the SplitUp program.")
    idl: Path | None = Field(None, description="Anchor IDL of the program; none takes the reference program's.")
    publish_prefix: Annotated[ObjectUri, NoDecode] = Field(
        description="Prefix below which packages and tensors are published, in a folder named by the public key."
    )

    @property
    def places(self) -> tuple[ObjectUri, ...]:
        return (self.publish_prefix, *self.allowed_prefixes)

    @field_validator("publish_prefix", mode="before")
    @classmethod
    def _parse_publish_prefix(cls, value: object) -> object:
        return parse_prefix(value) if isinstance(value, str) else value
