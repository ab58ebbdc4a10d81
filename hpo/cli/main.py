"""The command line: its options, its exit codes, and one-line errors. Nothing heavy is imported before it is needed."""

import gc
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from hpo import paths as study_paths
from hpo.cli.cluster import cluster, doctor
from hpo.cli.output import conclude, console, print_json
from hpo.errors import HpoError, UsageError

logger = logging.getLogger("hpo")

app = typer.Typer(
    name="hpo",
    help="Hyperparameter-optimisation studies for fine-tuning pretrained image backbones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="--debug, anywhere, shows the traceback of an error. Exit codes: 0 done, 1 failed, 2 bad usage or input,"
    " 130 interrupted.",
)

StudiesDir = Annotated[
    Path | None, typer.Option(help="Folder of all studies; default: $HPO_STUDIES_DIR, else ./studies.")
]
Storage = Annotated[
    str | None,
    typer.Option(help="Database of the studies, an SQLAlchemy URL; default: STUDIES_DIR/optuna.db."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
DataDir = Annotated[
    str | None,
    typer.Option(help="Datasets, weights, decoded images; default: $HPO_DATA_DIR, else ~/.cache/hpo."),
]
CacheSize = Annotated[float, typer.Option(min=0, help="Gigabytes (2^30) for decoded images and features.")]
NewAddress = Annotated[
    str | None, typer.Option(help="local, auto, or HOST:PORT of a Ray cluster; default: where the study ran last.")
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY")]


@app.command()
def run(
    backbone: Annotated[
        list[str],
        typer.Option(
            help="simclr, resnet18, resnet50, vgg, inception, vit, swin, torchvision:NAME, or package.module:function;"
            " may be repeated, one study each; all: the first seven."
        ),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Trials that each study is to reach.")],
    study: Annotated[
        str | None,
        typer.Option(help="The study's name; default: BACKBONE-DATASET. Of several backbones: STUDY-BACKBONE."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="pets, fashion-mnist, cifar10, digits, or imagefolder:DIR.")] = "pets",
    data_dir: DataDir = None,
    cache_size: CacheSize = 20.0,
    weights: Annotated[str, typer.Option(help="default, none, a published name, or a file.")] = "default",
    space: Annotated[Path | None, typer.Option(help="A search space of your own, a TOML file.")] = None,
    head: Annotated[str, typer.Option(help="projection, linear or paper.")] = "projection",
    augment: Annotated[str, typer.Option(help="none or standard (random crop and flip).")] = "none",
    image_size: Annotated[int | None, typer.Option(min=1, help="Side of the network's input, in pixels.")] = None,
    val_fraction: Annotated[float, typer.Option(help="Share of the training split that validates.")] = 0.25,
    label_fraction: Annotated[float, typer.Option(help="Share of the training labels that is kept.")] = 1.0,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Leave images out that cannot be read.")
    ] = False,
    sampler: Annotated[str, typer.Option(help="tpe or random.")] = "tpe",
    grace_period: Annotated[
        int | None, typer.Option(min=1, help="Epochs before ASHA may stop a trial; default 2.")
    ] = None,
    reduction_factor: Annotated[
        float | None, typer.Option(help="ASHA lets one in so many trials go on; default 4.")
    ] = None,
    no_asha: Annotated[bool, typer.Option("--no-asha", help="Stop no trial early.")] = False,
    address: Annotated[str, typer.Option(help="local, auto, or HOST:PORT of a Ray cluster.")] = "local",
    storage: Storage = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Folder or fsspec URL for trials' checkpoints; default: the study's own folder, of nodes that do not"
            " share it their data folder."
        ),
    ] = None,
    studies_dir: StudiesDir = None,
    cpus_per_trial: Annotated[float | None, typer.Option(min=0.1, help="CPUs of each trial.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(min=0.0, help="GPUs of each trial; may be a share.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Trials at a time.")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")] = "auto",
    timeout: Annotated[str | None, typer.Option(help="Start no epoch after this time: 90s, 45m, 8h, 1h30m.")] = None,
    max_failures: Annotated[
        int, typer.Option(min=0, help="Start a trial that failed again so often before it counts as FAIL.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the splits, the sampler and the trials.")] = 0,
    no_retrain: Annotated[bool, typer.Option("--no-retrain", help="Leave the held-out test alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a study: sample, train and stop trials; retrain the best; report its held-out test accuracy."""
    _one_of("--head", head, ("projection", "linear", "paper"))
    _one_of("--augment", augment, ("none", "standard"))
    _one_of("--sampler", sampler, ("tpe", "random"))
    _one_of("--precision", precision, ("auto", "fp32", "fp16", "bf16"))
    if reduction_factor is not None and not reduction_factor > 1:
        raise UsageError(f"--reduction-factor must be above 1, but is {reduction_factor:g}.")
    timeout_s = None if timeout is None else parse_duration(timeout)
    names = study_paths.study_names(backbone, dataset, study)
    folder = study_paths.studies_dir(studies_dir)
    located_by = study_paths.located_by(studies_dir, storage)

    from hpo.machines.checkpoints import checked_place
    from hpo.spec import RunOptions
    from hpo.studies.lifecycle import start
    from hpo.studies.new import Asked, checked

    asked = {
        "dataset": dataset,
        "weights": weights,
        "space": space,
        "head": head,
        "augment": augment,
        "image_size": image_size,
        "val_fraction": val_fraction,
        "label_fraction": label_fraction,
        "skip_bad_images": skip_bad_images,
        "sampler": sampler,
        "asha": not no_asha,
        "grace_period": grace_period,
        "reduction_factor": reduction_factor,
        "precision": precision,
        "seed": seed,
    }
    options = RunOptions(
        trials=trials,
        data_dir=data_dir and str(Path(data_dir).expanduser().absolute()),
        cache_bytes=_gigabytes(cache_size),
        address=address,
        checkpoints=checkpoints and checked_place(checkpoints),
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        concurrency=concurrency,
        timeout_s=timeout_s,
        max_failures=max_failures,
        retrain=not no_retrain,
    )
    studies = [
        (
            checked(Asked.model_validate({**asked, "backbone": one}), options),
            study_paths.StudyPaths(folder, name, located_by),
        )
        for one, name in names.items()
    ]
    conclude(start(studies, options, study_paths.storage_url(folder, storage)), as_json)


@app.command()
def resume(
    study: Annotated[list[str], typer.Argument(metavar="STUDY...")],
    trials: Annotated[int | None, typer.Option(min=1, help="A higher target, for each.")] = None,
    address: NewAddress = None,
    studies_dir: StudiesDir = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Go on with studies where they stopped."""
    from hpo.ledger.ledger import open_study
    from hpo.studies.lifecycle import resume as go_on

    located = [_located(name, studies_dir, storage) for name in dict.fromkeys(study)]
    studies = [(open_study(url, files.name), files) for files, url in located]
    conclude(go_on(studies, located[0][1], trials=trials, address=address), as_json)


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    studies_dir: StudiesDir = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Show all studies, or one."""
    from hpo.ledger.ledger import list_studies, open_study
    from hpo.views import tables
    from hpo.views.summary import summarise, summary

    files, url = _located(study or "-", studies_dir, storage)
    screen = console()
    if study is None:
        studies = list_studies(url)
        if as_json:
            print_json({"studies": [summarise(one, 0.0) for one in studies]})
        elif studies:
            tables.show_studies([summary(one) for one in studies], screen)
        else:
            logger.info("no studies in %s yet; `hpo run` starts one", files.studies)
        return
    ledger = open_study(url, study)
    if as_json:
        print_json(summarise(ledger, 0.0))
        return
    tables.show_studies([summary(ledger)], screen)
    screen.print()
    tables.show_study(ledger, screen)


@app.command()
def retrain(
    study: StudyName,
    seeds: Annotated[int, typer.Option(min=1, help="Models to train; mean and deviation are reported.")] = 1,
    top: Annotated[
        int, typer.Option(min=1, help="Train so many of the best again and let validation choose among them.")
    ] = 1,
    on: Annotated[str, typer.Option(help="train+val or train.")] = "train+val",
    address: NewAddress = None,
    studies_dir: StudiesDir = None,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Retrain a study's best configuration and look at held-out test."""
    _one_of("--on", on, ("train+val", "train"))
    from hpo.ledger.ledger import open_study
    from hpo.studies.lifecycle import retrain_again

    files, url = _located(study, studies_dir, storage)
    ledger = open_study(url, study)
    ended = retrain_again(
        ledger, files, url, seeds=seeds, top=top, on="train" if on == "train" else "train+val", address=address
    )
    conclude(ended, as_json)


@app.command()
def export(
    study: StudyName,
    form: Annotated[str, typer.Option("--format", help="toml (a search space), json, yaml or csv.")] = "toml",
    top: Annotated[int, typer.Option(min=1, help="How many of the best configurations.")] = 1,
    output: Annotated[Path | None, typer.Option(help="A file; default: stdout.")] = None,
    studies_dir: StudiesDir = None,
    storage: Storage = None,
) -> None:
    """Print the best configurations of a study."""
    _one_of("--format", form, ("toml", "json", "yaml", "csv"))
    from hpo.ledger.ledger import open_study
    from hpo.studies import export as exports

    _, url = _located(study, studies_dir, storage)
    text = exports.export(open_study(url, study), form, top)  # type: ignore[arg-type] # checked above
    if output is None:
        sys.stdout.write(text)
    else:
        exports.replace_text(output, text)


@app.command()
def dashboard(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines need more than loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    studies_dir: StudiesDir = None,
    storage: Storage = None,
) -> None:
    """Watch studies in optuna-dashboard, also while they run."""
    from hpo.ledger.ledger import open_study
    from hpo.studies.dashboard import serve

    _, url = _located(study or "-", studies_dir, storage)
    page = open_study(url, study).dashboard_path if study is not None else ""
    serve(url, host, port, page)


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
def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    studies_dir: StudiesDir = None,
    storage: Storage = None,
) -> None:
    """Delete a study: its trials, its models, its folder."""
    from hpo.ledger.ledger import open_study
    from hpo.studies.delete import delete as remove

    files, url = _located(study, studies_dir, storage)
    trials = open_study(url, study).n_trials
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"study {study} has {trials} trials; say --yes to delete it.")
        typer.confirm(f"Delete study {study} with its {trials} trials and {files.folder}?", abort=True, err=True)
    remove(url, files)
    logger.info("deleted study %s", study)


app.add_typer(cluster)
app.command()(doctor)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    _configure_logging(debug)
    code = _guarded(lambda: typer.main.get_command(app).main(arguments, "hpo", standalone_mode=False), debug)
    # The interpreter's last collection would look through all of torch, which takes more than a second.
    gc.freeze()
    sys.exit(code)


def parse_duration(text: str) -> float:
    """Return a time such as ``90s``, ``45m``, ``8h`` or ``1h30m`` in seconds.

    Raises:
        UsageError: It is no such time.
    """
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not text or match is None:
        raise UsageError(f"--timeout {text}: a time such as 90s, 45m, 8h or 1h30m is needed.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _guarded(command: Callable[[], Any], debug: bool) -> int:
    """Run `command`; turn what it raises into one or two lines on stderr and an exit code."""
    try:
        code = command()
        return code if isinstance(code, int) else 0
    except typer.TyperException as error:
        describe = getattr(error, "format_message", error.__str__)
        return _fail(describe(), 2)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except HpoError as error:
        if debug and error.exit_code == 1:
            logger.exception("the command failed")
        return _fail(str(error), error.exit_code)
    except OSError as error:
        # A full disk, a folder that may not be written to: the system's own words name the file.
        if debug:
            logger.exception("the command failed")
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except ValueError as error:
        # The packages below raise their own kinds of ValueError for a user's mistake.
        if type(error).__name__ not in ("InputError", "SpaceError"):
            raise
        return _fail(str(error), 2)


def _fail(message: str, code: int) -> int:
    prefix = "" if code == 130 else "error: "
    sys.stderr.write(f"{prefix}{message}\n")
    return code


def _configure_logging(debug: bool) -> None:
    """Progress goes to stderr as plain lines; other packages only speak up when something is wrong."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.DEBUG if debug else logging.WARNING)
    for name in ("hpo", "trainables", "search_spaces"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


def _located(study: str, studies_dir: Path | None, storage: str | None) -> tuple[study_paths.StudyPaths, str]:
    folder = study_paths.studies_dir(studies_dir)
    files = study_paths.StudyPaths(folder, study, study_paths.located_by(studies_dir, storage))
    return files, study_paths.storage_url(folder, storage)


def _gigabytes(size: float) -> int:
    return int(size * 2**30)


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{option} {value}: allowed are {', '.join(allowed)}.")
