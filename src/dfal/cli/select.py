"""dfal select: select images of a large pool with a saved model."""

import sys
from functools import partial
from pathlib import Path

import click

from dfal.cli import completion, output
from dfal.cli.commands import Command, option
from dfal.cli.options import PATH, json_option, quiet_option
from dfal.errors import DfalError, Stopped


@click.command(
    cls=Command,
    examples=[
        (
            "select 1,000 images of a folder",
            "select --pool photos --model photos.safetensors -k 1000",
        ),
        (
            "of shards in a bucket, on a Ray cluster",
            "select --pool s3://bucket/{000..099}.tar --model m.safetensors --executor ray -k 1000",
        ),
    ],
)
@option(
    "--pool",
    required=True,
    group="Pool",
    help=(
        "Images to select from: a folder, FILE.npy, FILE.csv, FILE.parquet, FILE.tar of WebDataset,"
        " hf:NAME, or an address of such files; {000..099} stands for several."
    ),
)
@option(
    "--exclude",
    type=PATH,
    multiple=True,
    group="Pool",
    help=(
        "A CSV or Parquet file with the column index, as this command writes: images that are not"
        " selected, as they are labelled. The option again for several files."
    ),
)
@option(
    "--model",
    type=PATH,
    required=True,
    group="Model",
    shell_complete=completion.files,
    help="A model that dfal saved.",
)
@option(
    "--network",
    metavar="NAME",
    group="Model",
    help="The package.module:function that built the network, if its code may be run.",
)
@option(
    "--strategy",
    default="margin",
    show_default=True,
    group="Queries",
    shell_complete=completion.strategies,
    help=(
        "Query strategy: one that ranks each image, as margin, entropy or dfal, also your own"
        " package.module:name, or one that chooses by features, as core-set, badge or typi-clust."
    ),
)
@option("-k", "k", type=click.IntRange(1), required=True, group="Queries", help="Images to select.")
@option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    group="Queries",
    help="Of what is random, and of the order of equal scores.",
)
@option(
    "--round",
    "round_",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    group="Queries",
    help="Round of active learning; another one orders equal scores anew.",
)
@option(
    "--executor",
    default="local",
    show_default=True,
    group="Computation",
    shell_complete=completion.executors,
    help="Where parts of the pool are computed: local, or ray, also as ray://host:10001.",
)
@option(
    "--workers",
    type=click.IntRange(1),
    group="Computation",
    help=(
        "Parts computed at a time, one thread each.  [default: the number of cores, or of Ray's"
        " cluster; 1 on a GPU]"
    ),
)
@option(
    "--part",
    type=click.IntRange(1),
    default=65536,
    show_default=True,
    group="Computation",
    help="Images that a worker gets at a time; the result does not depend on it.",
)
@option(
    "--device",
    default="cpu",
    show_default=True,
    group="Computation",
    help="Where the network runs: cpu or cuda.",
)
@option(
    "--out",
    type=PATH,
    default=Path("selected.csv"),
    show_default=True,
    group="Output",
    help="The table to write, FILE.csv or FILE.parquet: rank, index, path, score.",
)
@json_option("the selected images")
@quiet_option
def select(  # noqa: PLR0917
    pool: str,
    exclude: tuple[Path, ...],
    model: Path,
    network: str | None,
    strategy: str,
    k: int,
    seed: int,
    round_: int,
    executor: str,
    workers: int | None,
    part: int,
    device: str,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Select images of a pool of any size to label next.

    The pool is read in blocks, which workers rank; the best of all are written to a table. The
    result does not depend on the workers. Run the same command again to resume. Strategies that
    choose by features first write those of all images to a file next to the table.
    """
    from dfal.experiments import executors
    from dfal.experiments.executors.local import Local
    from dfal.experiments.executors.on_ray import Ray
    from dfal.large_pools import tables
    from dfal.large_pools import workers as crews
    from dfal.large_pools.blocks import PoolBlocks
    from dfal.large_pools.scoring import Job
    from dfal.large_pools.selecting import State
    from dfal.large_pools.selecting import select as select_images
    from dfal.models.weights import load
    from dfal.nn.training import check_device
    from dfal.processes import available_cores
    from dfal.spreadsheet import formulas
    from dfal.strategies import named, with_candidates

    if executor.partition(":")[0] not in ("local", "ray"):
        raise DfalError(f"--executor {executor} cannot compute parts of a pool: give local or ray")
    where = executors.named(executor)
    if isinstance(where, Local):
        check_device(device)
    try:
        saved = load(model, network)
    except DfalError as error:
        raise DfalError(str(error).replace("say --model ", "say --network ")) from None
    if not out.parent.is_dir():
        raise DfalError(f"there is no folder {out.parent} for --out: make it first")
    blocks = PoolBlocks.of(pool, saved.card.image)
    job = Job(
        blocks,
        model.absolute(),
        network,
        with_candidates(named(strategy, imports=True), None),
        k,
        seed,
        round_,
        tables.read_indices(exclude, blocks.source.count),
        device,
    )
    count = workers or (1 if device != "cpu" else available_cores())
    if isinstance(where, Ray):
        run: crews.Run = partial(crews.on_cluster, executor=where, workers=workers)
    else:
        run = crews.here if count == 1 else partial(crews.beside, workers=count)
    state = State(job, out)
    try:
        with click.progressbar(
            length=blocks.source.count,
            label="images",
            file=sys.stderr,
            hidden=quiet or not sys.stderr.isatty(),
        ) as bar:
            selected = select_images(job, state, run, -(-part // blocks.size), bar.update)
    except KeyboardInterrupt:
        raise Stopped("run the same command to resume") from None
    tables.write(selected, out)
    state.forget()
    if as_json:
        rows = zip(selected.indices, selected.paths, selected.scores, strict=True)
        output.print_json(
            [{"index": index, "path": path, "score": score} for index, path, score in rows]
        )
    elif not quiet:
        click.echo(f"dfal: {k:,} of {blocks.source.count:,} images: {out}", err=True)
        if warning := formulas(selected.paths):
            click.echo(f"dfal: {warning}", err=True)
