"""The store that is a Valkey Cluster: this server is one of its fronts, and keeps nothing."""

from metricsd.cluster.store import ClusterStore

__all__ = ["ClusterStore"]
