"""PruneScope's dashboard: every request starts here. Pages are in pages/, everything they show comes from prune_core."""

from pages import _admission, _frame

page = _frame.navigation()
if _admission.may_enter():
    _frame.draw()
    page.run()
