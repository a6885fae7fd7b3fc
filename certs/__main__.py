"""`python -m certs COMMAND` is `podgrace certs COMMAND`, without loading the webhook: what the sidecar container runs."""

import sys

from certs.cli import main

sys.exit(main())
