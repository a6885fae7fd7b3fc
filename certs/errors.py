"""What can go wrong with certificates, by who has to act.

Every message names the thing, the value and the place, and says what is accepted: people see it
unchanged.
"""


class CertificateError(Exception):
    """Base of everything that this package raises on purpose. Not raised itself."""


class BadName(CertificateError):
    """A name that no certificate can carry was asked for: the caller's mistake."""


class BadMaterial(CertificateError):
    """A stored certificate or key can't be used: damaged, mismatched or not ours."""


class StoreError(CertificateError):
    """A directory can't be read or written."""


class BadClock(CertificateError):
    """Our clock and the API server's differ too much to decide anything."""


class ApiError(CertificateError):
    """The Kubernetes API did not do what was asked: unreachable, forbidden, or broken.

    Try again later.
    """


class ApiMissing(ApiError):
    """The object does not exist: somebody who may create it has to."""


class ApiConflict(ApiError):
    """Somebody else was faster: read again and decide again."""
