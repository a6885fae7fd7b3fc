"""`podgrace check`: whether podgrace is installed soundly, and works in a namespace.

| module      | one line                                                                  |
|-------------|---------------------------------------------------------------------------|
| `selector`  | label selectors, as the API server evaluates them. Pure                   |
| `nodes`     | which nodes can mount the helper's image. Pure                            |
| `namespace` | one namespace: would a Pod be injected now?                               |
| `served`    | the certificate that a Pod of the webhook serves, seen by a TLS handshake |
| `facts`     | what the cluster holds of each release, read once                         |
| `verdict`   | the facts -> lines: ok, warn or fail, with the remedy. Pure               |
| `command`   | argv in, lines and an exit code out                                       |
"""

from webhook.cli.check.command import add_parser

__all__ = ["add_parser"]
