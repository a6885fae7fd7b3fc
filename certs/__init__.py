"""The webhook's certificates: authority, serving certificates, rotation without a failed handshake.

This package knows nothing about the webhook: the two meet in one Secret, which the kubelet gives to
the webhook as the files `ca.crt`, `tls.crt` and `tls.key`.

    authority   names and time in, PEM out (pure)   store       files, replaced as a whole
    rotation    what to do next (pure)              records     what the two Secrets hold
    manager     the loop that does it               kubernetes  the few API calls it needs
    lease       whose turn it is (pure)             checks      what is wrong in a directory (pure)
    local       certificates for one machine        survey      what is wrong in the cluster
    metrics     the manager's figures               cli         `podgrace certs ...`
"""

from certs.authority import Authority, Certificate, Leaf
from certs.errors import CertificateError
from certs.local import ephemeral

__all__ = ["Authority", "Certificate", "CertificateError", "Leaf", "ephemeral"]
