"""`podgrace prove`: find out whether a rollout of your own workload loses requests, and whose loss.

A load, your command in the middle of it, a watch beside it; one ledger; a verdict. Only your
command changes anything in the cluster. The watches themselves are in `webhook.cli.watching`. Read
it in this order:

| module       | one line                                                                     |
|--------------|------------------------------------------------------------------------------|
| `ledger`     | the frozen values: losses, seconds, what was seen of Pods and EndpointSlices |
| `target`     | a URL, method, headers, body: parsed once                                    |
| `connection` | what connections of all protocols are, and how a request on one ends         |
| `http1`      | one request at a time on a connection                                        |
| `http2`      | many streams on a connection; gRPC, too                                      |
| `websocket`  | a message and its answer                                                     |
| `events`     | server-sent events: whole, resumed, or lost                                  |
| `protocols`  | from a target to an open connection of its protocol; the first look          |
| `pool`       | connections that a client keeps                                              |
| `clients`    | the load: who sends when, and what is tried again                            |
| `seen`       | what one event of a watch says. Pure                                         |
| `watch`      | the watch beside the load, on its clock                                      |
| `lives`      | the entries of a ledger -> one life a Pod. Pure                              |
| `blame`      | a loss and the lives -> its class, and what to do. Pure                      |
| `report`     | a ledger -> the report; JSON both ways. Pure                                 |
| `text`       | the report for a terminal                                                    |
| `picture`    | the report -> places on one time axis. Pure                                  |
| `compare`    | several reports -> one table. Pure                                           |
| `html`       | the picture as one file; needs the extra `podgrace[prove]`                   |
| `markdown`   | the report for a job summary                                                 |
| `junit`      | the report for a CI                                                          |
| `progress`   | one line at a terminal while it runs                                         |
| `forward`    | is a URL the end of a port-forward?                                          |
| `job`        | manifests of a Job that runs it in the cluster                               |
| `runjob`     | that Job, the command here, one report                                       |
| `run`        | one run from the first look to the ledger                                    |
| `options`    | the words of the command line                                                |
| `command`    | argv in, files and an exit code out                                          |
"""

from webhook.cli.prove.command import add_parser

__all__ = ["add_parser"]
