"""`python -m webhook.cli` is `podgrace`."""

import sys

from webhook.cli import main

sys.exit(main())
