"""Who shares a worker: a requester with nobody, a group of requesters that trust each other among themselves."""

from collections.abc import Mapping, Sequence

Tenant = str


def tenant_of(requester: str, trust_groups: Mapping[str, Sequence[str]]) -> Tenant:
    """The group of this requester; the requester alone where it is in none, or in several.

    Members of two of its groups need not trust each other, so they must not meet by way of it.
    """
    groups = [name for name, members in trust_groups.items() if requester in members]
    return f"group {groups[0]}" if len(groups) == 1 else requester
