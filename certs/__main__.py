"""`python -m certs COMMAND` is `podgrace certs COMMAND`, without loading the webhook.

The container beside the webhook runs it.
"""

import sys

from certs.cli import main

sys.exit(main())
