"""`podgrace plan`: a cluster before the label. Objects in, a report out.

| module      | one line                                                                      |
|-------------|-------------------------------------------------------------------------------|
| `command`   | argv in; a report and an exit code out                                        |
| `html`      | the report as one page; needs the extra `podgrace[prove]`                     |
| `text`      | the report at a terminal                                                      |
| `changes`   | what differs between two reports. Pure                                        |
| `report`    | a row for each workload, the worst first; totals. Pure                        |
| `rules`     | all rules, by code                                                            |
| `today`     | rules: why requests are lost. Pure                                            |
| `obstacles` | rules: what is in the way. Pure                                               |
| `beyond`    | rules: what no Pod patch can fix. Pure                                        |
| `rule`      | what a rule is                                                                |
| `evidence`  | what is known of one workload: the core's look and decision, its surroundings |
| `read`      | JSON of objects in, values out                                                |
| `objects`   | the values                                                                    |

Decisions about a Pod belong in `webhook.core`: this asks for them and never repeats them. Which
running Pods slipped through belongs in `audit`.
"""

from webhook.cli.plan.command import add_parser

__all__ = ["add_parser"]
