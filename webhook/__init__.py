"""Graceful rolling updates by admission: decide, patch, serve. Certificates live in `certs`, the in-pod helper in `entrypoint/`."""

__version__ = "0.1.0"
