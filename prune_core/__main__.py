"""python -m prune_core …"""

from .cli import main

raise SystemExit(main())
