"""What a store has of one table or figure of the paper, next to the paper's numbers."""

from pathlib import Path

from dfal import reproduce
from dfal.analysis.outcome import outcomes
from dfal.cli import output
from dfal.cli.study_report import page_of, print_paths, print_results, write_tables
from dfal.experiments.store import Store
from dfal.reporting import html, terminal


def show(
    path: Path, what: str, tables_folder: Path | None, *, as_json: bool = False, quiet: bool = False
) -> None:
    """Print a table or figure next to the paper's, and write the page of the store.

    Args:
        path: the store.
        what: the name of the table or figure.
        tables_folder: a folder for all tables as LaTeX and CSV.
        as_json: whether to print JSON in place of tables.
        quiet: whether to print nothing.
    """
    artefact, page = reproduce.ARTEFACTS[what], page_of(path)
    with Store(path) as store:
        results = reproduce.read_results(store)
        if tables_folder:
            write_tables(tables_folder, results)
        html.write(store, results, page)
        if as_json:
            tables, verdicts = artefact.tables(results), artefact.verdicts(results)
            print_results(path, page, tables, verdicts, outcomes(results.studies))
            return
        if quiet:
            return
        for table in artefact.tables(results):
            output.print_table(terminal.paper_table(table))
        for table in terminal.verdict_tables(artefact.verdicts(results)):
            output.print_table(table)
    print_paths(path, page)
