"""PruneScope's dashboard: every request starts here. Pages are in pages/, everything they show comes from prune_core."""

from pages import _admission, _frame, _navigation

page = _navigation.navigation()
if _admission.may_enter():
    _frame.draw()
    page.run()
