"""`podgrace plan`: a cluster before the label. Objects in, a report out.

| module      | one line                                                                      |
|-------------|-------------------------------------------------------------------------------|
| `command`   | argv in; a report and an exit code out                                        |
| `html`      | the report as one page; needs the extra `podgrace[prove]`                     |
| `text`      | the report at a terminal                                                      |
| `changes`   | what is different between two reports. Pure                                   |
| `report`    | a row for each workload, the worst first; totals. Pure                        |
| `rules`     | all rules, by code                                                            |
| `today`, `obstacles`, `beyond` | the rules: why requests are lost; what is in the way; what no Pod patch can mend. Pure |
| `rule`      | what a rule is                                                                |
| `evidence`  | what is known of one workload: the core's look and decision, what is around it |
| `read`      | JSON of objects in, values out                                                |
| `objects`   | the values                                                                    |

What is decided about a Pod belongs to `webhook.core`, and is asked there, never repeated here.
Which running Pods slipped through belongs to `audit`.
"""

from webhook.cli.survey.command import add_parser

__all__ = ["add_parser"]
