"""`podgrace timeline`: what happens when, while a Pod comes and goes, on one clock.

Read it in this order:

| module       | one line                                                                      |
|--------------|-------------------------------------------------------------------------------|
| `sight`      | the frozen values: Pods as the API has them, questions and answers of clients |
| `dns`        | a question to a DNS server as bytes. Pure                                     |
| `lives`      | what was seen -> how each Pod came and went. Pure                             |
| `spread`     | several lives -> least, median, most. Pure                                    |
| `suggestion` | those -> delay-min, delay-max, minReadySeconds, and why. Pure                 |
| `report`     | the report as one tree; JSON. Pure                                            |
| `text`       | the report for a terminal                                                     |
| `picture`    | the report -> places on a time axis. Pure                                     |
| `html`       | the picture as one file; needs the extra `podgrace[prove]`                    |
| `observer`   | a client that asks again and again                                            |
| `remote`     | an observer in a Pod on a node, and its clock                                 |
| `workload`   | the server in the Pod that comes and goes                                     |
| `manifests`  | what is made in the cluster. Pure                                             |
| `kube`       | changes in the cluster, through kubectl                                       |
| `hub`        | everything that is seen, on one clock                                         |
| `run`        | one run from the first manifest to the last removal                           |
| `options`    | the words of the command line                                                 |
| `command`    | argv in, files and an exit code out                                           |
"""

from webhook.cli.timeline.command import add_parser

__all__ = ["add_parser"]
