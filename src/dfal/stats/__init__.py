"""Statistics of few seeds and few answers."""
