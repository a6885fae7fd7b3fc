"""What can go wrong with certificates, told by whose turn it is to act.

Every message names the thing, the value and the place, and says what is accepted: it is printed to a person as it stands.
"""


class CertificateError(Exception):
    """Base of everything that this package raises on purpose. Never raised itself."""


class BadName(CertificateError):
    """A name that no certificate can carry was asked for: the caller's mistake."""


class BadMaterial(CertificateError):
    """A stored certificate or key can't be used: damaged, mismatched or not ours."""


class StoreError(CertificateError):
    """A directory can't be read or written."""


class BadClock(CertificateError):
    """Our clock and the API server's differ too much to decide anything by it."""


class ApiError(CertificateError):
    """The Kubernetes API did not do what was asked: unreachable, not allowed, or out of order. Trying again later is right."""


class ApiMissing(ApiError):
    """The object is not there: somebody who may create it has to."""


class ApiConflict(ApiError):
    """Somebody else was faster. Reading again and deciding anew is the only right reaction."""
