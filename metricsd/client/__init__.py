"""The blocking client, and its commands: it knows the protocol, and nothing of the server."""

from metricsd.client.client import Client, ClientError

__all__ = ["Client", "ClientError"]
