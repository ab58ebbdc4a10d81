"""The command line: its options, its exit codes, and one-line errors. Nothing heavy is imported before it is needed."""

import gc
import importlib.metadata
import logging
import math
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn, TextIO

import typer

from hpo.api.options import (
    DataDir,
    DataOptions,
    Location,
    MachineOptions,
    ModelOptions,
    SearchOptions,
    Timeout,
)
from hpo.api.running import resume_together, run_together
from hpo.api.study import compare, list_studies, open_study
from hpo.choices import ExportFormat, RetrainOn
from hpo.cli import completion
from hpo.cli.cluster import cluster, doctor
from hpo.cli.embed import embed
from hpo.cli.groups import AsJson, grouped
from hpo.cli.guard import Aside, guarded, is_own
from hpo.cli.home import ensure_home
from hpo.cli.models import predict
from hpo.cli.output import conclude, console, examples, print_json
from hpo.cli.paper import paper
from hpo.cli.pretrain import pretrain
from hpo.cli.relay import rays_text_aside
from hpo.errors import UsageError
from hpo.live.screen import is_interactive
from trainables.config import ModelFormat
from trainables.steps import step_of

logger = logging.getLogger("hpo")

_STEP_LINE_S = 5.0
"""Between two lines about the same long work."""

app = typer.Typer(
    name="hpo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="--debug, anywhere, shows the traceback of an error. Exit codes: 0 done, 1 failed, 2 bad usage or input,"
    " 130 interrupted.",
)

NewAddress = Annotated[
    str | None, typer.Option(help="local, auto, or HOST:PORT of a Ray cluster; default: where the study ran last.")
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", autocompletion=completion.studies)]
StudyNames = Annotated[list[str], typer.Argument(metavar="STUDY...", autocompletion=completion.studies)]
MaybeStudyName = Annotated[str | None, typer.Argument(metavar="[STUDY]", autocompletion=completion.studies)]


@app.command(
    epilog=examples(
        "hpo run --backbone simclr --trials 60",
        "hpo run --backbone resnet18 --dataset imagefolder:photos --trials 20 --timeout 8h",
        "hpo run --backbone all --trials 30 --study pets --address auto",
    )
)
@grouped
def run(
    *,
    backbone: Annotated[
        list[str],
        typer.Option(
            help="simclr, resnet18, resnet50, vgg, inception, vit, swin, torchvision:NAME, small:NAME, or"
            " package.module:function; may be repeated, one study each; all: the first seven.",
            autocompletion=completion.backbones,
        ),
    ],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials that each study is to reach; of a grid: default all of it.")
    ] = None,
    data: DataOptions,
    model: ModelOptions,
    search: SearchOptions,
    machines: MachineOptions,
    location: Location,
    study: Annotated[
        str | None,
        typer.Option(help="The study's name; default: BACKBONE-DATASET. Of several backbones: STUDY-BACKBONE."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Seed of the splits, the sampler and the trials.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Run a study: sample, train and stop trials; retrain the best; report its held-out test accuracy."""
    with rays_text_aside():
        ended = run_together(
            backbone,
            trials=trials,
            study=study,
            seed=seed,
            data=data,
            model=model,
            search=search,
            machines=machines,
            location=location,
        )
    conclude(ended, as_json)


@app.command(epilog=examples("hpo resume simclr-pets", "hpo resume simclr-pets --trials 100 --timeout 2h"))
@grouped
def resume(
    *,
    study: StudyNames,
    trials: Annotated[int | None, typer.Option(min=1, help="A higher target, for each.")] = None,
    timeout_s: Timeout = None,
    address: NewAddress = None,
    location: Location,
    as_json: AsJson = False,
) -> None:
    """Continue studies where they stopped."""
    with rays_text_aside():
        ended = resume_together(study, trials=trials, address=address, timeout_s=timeout_s, location=location)
    conclude(ended, as_json)


@app.command(epilog=examples("hpo status", "hpo status simclr-pets --json"))
@grouped
def status(
    *,
    study: MaybeStudyName = None,
    location: Location,
    as_json: AsJson = False,
) -> None:
    """Show all studies, or one."""
    from hpo.views import tables
    from hpo.views.summary import summary

    screen = console()
    if study is None:
        studies = list_studies(location)
        if as_json:
            print_json({"studies": [one.summary for one in studies]})
        elif studies:
            tables.show_studies([summary(one.ledger) for one in studies], screen)
        else:
            logger.info("no studies in %s yet; `hpo run` starts one", location.studies)
        return
    found = open_study(study, location)
    if as_json:
        print_json(found.summary)
        return
    ledger = found.ledger
    tables.show_studies([summary(ledger)], screen)
    screen.print()
    tables.show_study(ledger, screen)


@app.command(epilog=examples("hpo retrain simclr-pets --seeds 5", "hpo retrain simclr-pets --top 3 --on train"))
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
    location: Location,
    as_json: AsJson = False,
) -> None:
    """Retrain a study's best configuration and look at held-out test."""
    with rays_text_aside():
        ended = open_study(study, location).retrain_again(seeds=seeds, top=top, on=on, address=address)
    conclude(ended, as_json)


@app.command(epilog=examples("hpo report simclr-pets", "hpo report simclr-pets resnet50-pets vit-pets"))
@grouped
def report(*, study: StudyNames, location: Location) -> None:
    """Write an HTML page about a study, or one that compares several, with its figures and tables."""
    names = list(dict.fromkeys(study))
    logger.info("reading %s", ", ".join(names))
    page = compare([open_study(name, location) for name in names])
    sys.stdout.write(f"{os.path.relpath(page)}\n")


@app.command(
    epilog=examples(
        "hpo export simclr-pets --output best.toml",
        "hpo export simclr-pets --format json --top 3",
        "hpo export simclr-pets --model onnx --output pets.onnx",
    )
)
@grouped
def export(
    *,
    study: StudyName,
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="toml is a search space.", show_default="toml")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="How many of the best configurations.", show_default="1")
    ] = None,
    model: Annotated[
        ModelFormat | None, typer.Option(help="Write the final model so instead, checked on real images.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A file; default: stdout, of a model one in the study's final folder.")
    ] = None,
    location: Location,
) -> None:
    """Print the best configurations of a study, or write its final model in another format."""
    if model is not None:
        if form is not None or top is not None:
            raise UsageError("--model writes the final model; --format and --top are of configurations.")
        made = open_study(study, location).export_model(model, output)
        sys.stdout.write(f"{os.path.relpath(made.path)}: {made}\n")
        return
    text = open_study(study, location).export(form or "toml", top or 1)
    if output is None:
        sys.stdout.write(text)
    else:
        from hpo.studies.export import replace_text

        replace_text(output, text)


@app.command(epilog=examples("hpo dashboard simclr-pets", "hpo dashboard --read-only --port 8081"))
@grouped
def dashboard(
    *,
    study: MaybeStudyName = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines need more than loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    read_only: Annotated[bool, typer.Option("--read-only", help="Let nobody change anything there.")] = False,
    location: Location,
) -> None:
    """Watch studies in optuna-dashboard, also while they run."""
    from hpo.dashboard.guard import Guard
    from hpo.dashboard.server import serve

    serve(location.url, location.paths, study, Guard(host, read_only), port)


@app.command(epilog=examples("hpo cache", "hpo cache --clear"))
@grouped
def cache(
    *,
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


@app.command(epilog=examples("hpo delete simclr-pets"))
@grouped
def delete(
    *,
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    location: Location,
) -> None:
    """Delete a study: its trials, its models, its folder."""
    found = open_study(study, location)
    trials = sum(found.states.values())
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"study {study} has {trials} trials; say --yes to delete it.")
        typer.confirm(f"Delete study {study} with its {trials} trials and {found.folder}?", abort=True, err=True)
    found.delete()
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


app.add_typer(cluster)
app.command(
    epilog=examples(
        "hpo pretrain --arch resnet50 --dataset imagefolder:photos --epochs 200",
        "hpo pretrain --arch resnet18 --dataset digits --no-flip --output digits.safetensors",
    )
)(pretrain)
app.command(
    epilog=examples(
        "hpo paper --dry-run",
        "hpo paper --backbone simclr --backbone resnet50 --as-published",
        "hpo paper --ablate simclr --seeds 3",
    )
)(paper)
app.command(epilog=examples("hpo doctor", "hpo doctor --address auto --checkpoints /shared/checkpoints"))(doctor)
app.command(
    epilog=examples(
        "hpo predict simclr-pets cat.jpg holiday/",
        "hpo predict studies/simclr-pets/final cat.jpg --format csv",
        "hpo predict simclr-pets holiday/ --format json",
    )
)(predict)
app.command(
    epilog=examples(
        "hpo embed simclr-pets",
        "hpo embed simclr-pets --images holiday --format parquet",
        "hpo embed --backbone small:resnet18 --weights digits.safetensors --dataset digits --output map",
    )
)(embed)


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


class _Lines(logging.StreamHandler[TextIO]):
    """Writes messages to what is sys.stderr at the time: while a screen is redrawn, they appear above it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self._said_at: dict[str, float] = {}

    @property
    def stream(self) -> TextIO:  # type: ignore[override] # where StreamHandler keeps one stream
        return sys.stderr

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what a bar shows, and say seldom how far long work is."""
        step = step_of(record)
        if step is not None:
            if is_interactive() or record.created - self._said_at.get(step.work, -math.inf) < _STEP_LINE_S:
                return False
            self._said_at[step.work] = record.created
        return bool(super().filter(record))


def _configure_logging(debug: bool) -> Aside:
    """Show our own progress on stderr as plain lines; set aside what other packages say."""
    aside, shown = Aside(), _Lines()
    shown.addFilter(lambda record: debug or is_own(record))
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(format="%(message)s", handlers=[shown, aside], level=level)
    if aside in logging.getLogger().handlers:
        aside.catch()
    for name in ("hpo", "trainables", "search_spaces"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
    return aside
