"""Pieces of a model where nodes find them, and how a folder keeps them between two commands."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from pydantic import ValidationError

from compute.graph.document import parse_graph
from compute.graph.task_graph import TaskGraph
from compute.storage.store import Storage
from requester.publish import publish_package, publish_tensors
from requester.split import MAX_NODES, MAX_PACKAGE_BYTES, Piece
from shared.errors import ConfigurationError
from shared.ids import ModelId, Requester
from shared.messages import Message, ModelIdField
from shared.uris import ObjectUri

INDEX: Final = "pieces.json"


@dataclass(frozen=True, slots=True)
class PublishedPiece:
    """What an assignment of this piece needs; `weights_uri` is None where it has none. Names as in Piece."""

    model_id: ModelId
    graph: TaskGraph
    weights_uri: str | None
    activations: tuple[str, ...]
    outputs: tuple[str, ...]


class PieceEntry(Message):
    """One piece in a folder: its package is `<modelId>.json`, its weights are in `<modelId>.safetensors`."""

    model_id: ModelIdField
    activations: list[str]
    outputs: list[str]
    weights: int
    """How many; they are named `0`, `1`, … in the order of the graph's inputs."""
    weights_uri: str | None = None
    """Once they are published."""


class PieceIndex(Message):
    """`pieces.json`: the pieces in the order in which they run. `published_by` is the requester, once it is so."""

    pieces: list[PieceEntry]
    published_by: str | None = None


async def publish_piece(storage: Storage, prefix: ObjectUri, requester: Requester, piece: Piece) -> PublishedPiece:
    """Store package and weights in the requester's folder below `prefix`; what is there already stays."""
    model_id = await publish_package(storage, prefix, requester, piece.package)
    weights = list(piece.weights.values())
    uri = await publish_tensors(storage, prefix, requester, weights, is_weights=True) if weights else None
    return PublishedPiece(model_id, piece.graph, uri, piece.activations, piece.outputs)


def save_pieces(folder: Path, pieces: Sequence[Piece]) -> None:
    """Write packages, weights and `pieces.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        (folder / f"{piece.package_id}.json").write_bytes(piece.package)
        named = {str(place): tensor.contiguous() for place, tensor in enumerate(piece.weights.values())}
        if named:
            safetensors.torch.save_file(named, folder / f"{piece.package_id}.safetensors")
    entries = [
        PieceEntry(
            model_id=ModelId(piece.package_id),
            activations=list(piece.activations),
            outputs=list(piece.outputs),
            weights=len(piece.weights),
        )
        for piece in pieces
    ]
    _write_index(folder, PieceIndex(pieces=entries))


async def publish_folder(storage: Storage, prefix: ObjectUri, requester: Requester, folder: Path) -> PieceIndex:
    """Publish what save_pieces wrote, and note in `pieces.json` where it is. Raises ConfigurationError."""
    entries = []
    for entry in _read_index(folder).pieces:
        await publish_package(storage, prefix, requester, _package(folder, entry))
        uri = None
        if entry.weights:
            weights = await asyncio.to_thread(_load_weights, folder, entry)
            uri = await publish_tensors(storage, prefix, requester, weights, is_weights=True)
        entries.append(entry.model_copy(update={"weights_uri": uri}))
    index = PieceIndex(pieces=entries, published_by=requester)
    _write_index(folder, index)
    return index


def published_pieces(folder: Path, requester: Requester) -> list[PublishedPiece]:
    """What publish_folder stored for this requester. Raises ConfigurationError."""
    index = _read_index(folder)
    if index.published_by != requester:
        raise ConfigurationError(
            f"{folder} is published by {index.published_by or 'nobody'}, not by {requester}: "
            "run splitup-node publish with this key first"
        )
    return [
        PublishedPiece(
            entry.model_id,
            parse_graph(_package(folder, entry), max_bytes=MAX_PACKAGE_BYTES, max_nodes=MAX_NODES),
            entry.weights_uri,
            tuple(entry.activations),
            tuple(entry.outputs),
        )
        for entry in index.pieces
    ]


def _read_index(folder: Path) -> PieceIndex:
    path = folder / INDEX
    try:
        return PieceIndex.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; splitup-node split writes it") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not what splitup-node split writes: {error}") from error


def _write_index(folder: Path, index: PieceIndex) -> None:
    (folder / INDEX).write_text(index.model_dump_json(by_alias=True, indent=1), encoding="utf-8")


def _package(folder: Path, entry: PieceEntry) -> bytes:
    path = folder / f"{entry.model_id}.json"
    try:
        package = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if hashlib.sha256(package).hexdigest() != entry.model_id:
        raise ConfigurationError(f"{path} has changed since it was written: its name is not its SHA-256")
    return package


def _load_weights(folder: Path, entry: PieceEntry) -> list[torch.Tensor]:
    path = folder / f"{entry.model_id}.safetensors"
    try:
        named = safetensors.torch.load_file(path)
        return [named[str(place)] for place in range(entry.weights)]
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise ConfigurationError(f"{path} is not what splitup-node split wrote: {error}") from error
