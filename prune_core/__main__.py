"""python -m prune_core …"""

from .cli.arguments import main

raise SystemExit(main())
