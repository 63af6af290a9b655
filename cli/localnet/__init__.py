"""A SplitUp network on this machine: for the demo, for tests, and for who tries the commands."""

from cli.localnet.network import LocalNetwork, local_network
from cli.localnet.node import RunningNode, running_node

__all__ = ["LocalNetwork", "RunningNode", "local_network", "running_node"]
