"""PruneScope's dashboard: every request starts here. Pages are in pages/, everything they show comes from prune_core."""

from pages import _frame

page = _frame.navigation()
_frame.draw()
page.run()
