"""Studies for people: the terminal, figures, a page, LaTeX and CSV."""
