"""Graceful rolling updates by admission: decide, patch, serve.

Certificates live in `certs`, the helper that runs in Pods in `entrypoint/`.
"""

__version__ = "0.1.0"
