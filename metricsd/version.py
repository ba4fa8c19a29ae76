"""The version, where the package, the command line and the one-file build all find it."""

__version__ = "0.1.0"
