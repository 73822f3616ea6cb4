"""`python -m astra_cli` is `astra`."""

import sys

from astra_cli.main import main

sys.exit(main())
