"""Exit codes of the command line, and the base of errors that end a command with one of them.

| exit | name     | means                                                                        |
|------|----------|------------------------------------------------------------------------------|
| 0    | OK       | done; nothing wrong was found                                                |
| 1    | UNUSABLE | the input, the configuration, a certificate or the cluster cannot be used    |
| 2    | USAGE    | wrong arguments                                                              |
| 3    | DIFFERS  | looked, and found what the command looks for: a Pod that slipped through,    |
|      |          | lost requests, an installation that is not sound                             |
| 4    | BUG      | a bug in podgrace                                                            |
| 130  | STOPPED  | interrupted from the keyboard                                                |
"""

from typing import Final

OK: Final = 0
UNUSABLE: Final = 1
USAGE: Final = 2
DIFFERS: Final = 3
BUG: Final = 4
STOPPED: Final = 130


class Unusable(Exception):
    """Something that a command needs cannot be used. The message is printed as it stands."""
