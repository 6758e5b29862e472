"""Statistics: what a few seeds and a few answers can tell."""
