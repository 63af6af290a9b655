"""Who may read what: decided from the URI alone, before any request is sent."""

from collections.abc import Mapping, Sequence

from shared.errors import InputForbidden
from shared.ids import Requester
from shared.uris import ObjectUri, relative_key

PUBLIC = "public"


class AccessPolicy:
    """Allowed prefixes, and groups of requesters that trust each other (name of the group to its requesters)."""

    def __init__(
        self, allowed_prefixes: Sequence[ObjectUri], trust_groups: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._prefixes = tuple(allowed_prefixes)
        self._groups = tuple(frozenset(members) for members in (trust_groups or {}).values())

    def folders(self, requester: Requester) -> frozenset[str]:
        """The folders below each allowed prefix that this requester may read."""
        trusted = (group for group in self._groups if requester in group)
        return frozenset({requester, PUBLIC}).union(*trusted)

    def check(self, uri: ObjectUri, requester: Requester) -> None:
        """Raises InputForbidden unless the key goes on, below an allowed prefix, with one of `folders`."""
        folders = self.folders(requester)
        for prefix in self._prefixes:
            folder, _, rest = (relative_key(prefix, uri) or "").partition("/")
            if folder in folders and rest:
                return
        raise InputForbidden(
            f"requester {requester} may not read {uri}: below an allowed prefix of this node, "
            f"the next part of the key must be {requester} or {PUBLIC}"
        )
