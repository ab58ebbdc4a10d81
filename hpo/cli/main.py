"""The command line: its options, its exit codes, and one-line errors. Nothing heavy is imported before it is needed."""

import gc
import importlib.metadata
import logging
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from hpo import paths as study_paths
from hpo.cli.cluster import cluster, doctor
from hpo.cli.groups import (
    AsJson,
    DataDir,
    DataOptions,
    Located,
    MachineOptions,
    ModelOptions,
    SearchOptions,
    Timeout,
    grouped,
)
from hpo.cli.guard import Aside, guarded, is_own
from hpo.cli.home import ensure_home
from hpo.cli.output import conclude, console, print_json
from hpo.cli.report import report
from hpo.errors import UsageError

logger = logging.getLogger("hpo")

RetrainOn = Literal["train+val", "train"]
ExportFormat = Literal["toml", "json", "yaml", "csv"]

app = typer.Typer(
    name="hpo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere, shows the traceback of an error. Exit codes: 0 done, 1 failed, 2 bad usage or input,"
    " 130 interrupted.",
)

NewAddress = Annotated[
    str | None, typer.Option(help="local, auto, or HOST:PORT of a Ray cluster; default: where the study ran last.")
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY")]


@app.command()
@grouped
def run(
    *,
    backbone: Annotated[
        list[str],
        typer.Option(
            help="simclr, resnet18, resnet50, vgg, inception, vit, swin, torchvision:NAME, or package.module:function;"
            " may be repeated, one study each; all: the first seven."
        ),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Trials that each study is to reach.")],
    data: DataOptions,
    model: ModelOptions,
    search: SearchOptions,
    machines: MachineOptions,
    located: Located,
    study: Annotated[
        str | None,
        typer.Option(help="The study's name; default: BACKBONE-DATASET. Of several backbones: STUDY-BACKBONE."),
    ] = None,
    space: Annotated[Path | None, typer.Option(help="A search space of your own, a TOML file.")] = None,
    geometry_of: Annotated[
        str | None,
        typer.Option(help="For a weights file: the published weights whose resize, crop and normalisation it takes."),
    ] = None,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Leave images out that cannot be read.")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of the splits, the sampler and the trials.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a study: sample, train and stop trials; retrain the best; report its held-out test accuracy."""
    names = study_paths.study_names(backbone, data.dataset, study)

    import search_spaces
    from hpo.ledger.studies import recorded_spec
    from hpo.studies.lifecycle import start
    from hpo.studies.new import new_study
    from trainables.config import ModelConfig

    options = machines.options(trials)
    studies = [
        (
            new_study(
                data.config,
                ModelConfig(backbone=one, **vars(model)),
                search.over(search_spaces.for_study(one, model.weights, space)),
                options,
                seed=seed,
                skip_bad_images=skip_bad_images,
                geometry_of=geometry_of,
                exif=data.exif,
                existing=recorded_spec(located.url, name),
            ),
            located.paths(name),
        )
        for one, name in names.items()
    ]
    conclude(start(studies, options, located.url), as_json)


@app.command()
@grouped
def resume(
    *,
    study: Annotated[list[str], typer.Argument(metavar="STUDY...")],
    trials: Annotated[int | None, typer.Option(min=1, help="A higher target, for each.")] = None,
    timeout_s: Timeout = None,
    address: NewAddress = None,
    located: Located,
    as_json: AsJson = False,
) -> None:
    """Continue studies where they stopped."""
    from hpo.studies import lifecycle

    studies = [located.paths(name) for name in dict.fromkeys(study)]
    ended = lifecycle.resume(studies, located.url, trials=trials, address=address, timeout_s=timeout_s)
    conclude(ended, as_json)


@app.command()
@grouped
def status(
    *,
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    located: Located,
    as_json: AsJson = False,
) -> None:
    """Show all studies, or one."""
    from hpo.ledger.studies import list_studies, open_study
    from hpo.views import tables
    from hpo.views.summary import summarise, summary

    url = located.url
    screen = console()
    if study is None:
        studies = list_studies(url)
        if as_json:
            print_json({"studies": [summarise(one, 0.0) for one in studies]})
        elif studies:
            tables.show_studies([summary(one) for one in studies], screen)
        else:
            logger.info("no studies in %s yet; `hpo run` starts one", located.studies)
        return
    ledger = open_study(url, study)
    if as_json:
        print_json(summarise(ledger, 0.0))
        return
    tables.show_studies([summary(ledger)], screen)
    screen.print()
    tables.show_study(ledger, screen)


@app.command()
@grouped
def retrain(
    *,
    study: StudyName,
    seeds: Annotated[int, typer.Option(min=1, help="Models to train; mean and deviation are reported.")] = 1,
    top: Annotated[
        int, typer.Option(min=1, help="Train so many of the best again and let validation choose among them.")
    ] = 1,
    on: Annotated[RetrainOn, typer.Option(help="What it learns from.")] = "train+val",
    address: NewAddress = None,
    located: Located,
    as_json: AsJson = False,
) -> None:
    """Retrain a study's best configuration and look at held-out test."""
    from hpo.studies.lifecycle import retrain_again

    ended = retrain_again(located.paths(study), located.url, seeds=seeds, top=top, on=on, address=address)
    conclude(ended, as_json)


@app.command()
@grouped
def export(
    *,
    study: StudyName,
    form: Annotated[ExportFormat, typer.Option("--format", help="toml is a search space.")] = "toml",
    top: Annotated[int, typer.Option(min=1, help="How many of the best configurations.")] = 1,
    output: Annotated[Path | None, typer.Option(help="A file; default: stdout.")] = None,
    located: Located,
) -> None:
    """Print the best configurations of a study."""
    from hpo.ledger.studies import open_study
    from hpo.studies import export as exports

    text = exports.export(open_study(located.url, study), form, top)
    if output is None:
        sys.stdout.write(text)
    else:
        exports.replace_text(output, text)


@app.command()
@grouped
def dashboard(
    *,
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines need more than loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let nobody change anything there.")] = False,
    located: Located,
) -> None:
    """Watch studies in optuna-dashboard, also while they run."""
    from hpo.dashboard.guard import Guard
    from hpo.dashboard.server import serve

    serve(located.url, located.paths, study, Guard(host, read_only), port)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is listed.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List this machine's decoded images and features, the least recently used first, or remove them."""
    from hpo.studies.cache import cached, clear_cache
    from hpo.views.tables import show_cache

    arrays = clear_cache(data_dir) if clear else cached(data_dir)
    if as_json:
        print_json({"arrays": [{"path": str(one.path), "kind": one.kind, "bytes": one.size} for one in arrays]})
    else:
        show_cache(arrays, console(), cleared=clear)


@app.command()
@grouped
def delete(
    *,
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    located: Located,
) -> None:
    """Delete a study: its trials, its models, its folder."""
    from hpo.ledger.studies import open_study
    from hpo.studies.delete import delete as remove

    files = located.paths(study)
    trials = open_study(located.url, study).n_trials
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"study {study} has {trials} trials; say --yes to delete it.")
        typer.confirm(f"Delete study {study} with its {trials} trials and {files.folder}?", abort=True, err=True)
    remove(located.url, files)
    logger.info("deleted study %s", study)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"hpo {importlib.metadata.version('hpo')}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hyperparameter-optimisation studies for fine-tuning pretrained image backbones."""


app.command()(report)
app.add_typer(cluster)
app.command()(doctor)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1

    def command() -> object:
        ensure_home()
        return typer.main.get_command(app).main(arguments, "hpo", standalone_mode=False)

    code = guarded(command, _configure_logging(debug), debug=debug)
    # The interpreter's last collection would look through all of torch, which takes more than a second.
    gc.freeze()
    sys.exit(code)


def _configure_logging(debug: bool) -> Aside:
    """Show our own progress on stderr as plain lines; set aside what other packages say."""
    aside, shown = Aside(), logging.StreamHandler(sys.stderr)
    shown.addFilter(lambda record: debug or is_own(record))
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(format="%(message)s", handlers=[shown, aside], level=level)
    if aside in logging.getLogger().handlers:
        aside.catch()
    for name in ("hpo", "trainables", "search_spaces"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    return aside
