"""Search of a space of recipes, on one computer or many. Needs Optuna (the extra 'search')."""
