"""One pretraining: begun, continued after an interruption, or found to be done."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import HpoError, UsageError
from hpo.interrupts import stoppable
from hpo.live.screen import Screen
from hpo.pretrain.files import PretrainFiles, files_of, metadata, owned, write
from hpo.pretrain.progress import PretrainLine
from trainables.contrastive.config import PretrainConfig, PretrainedEncoder, PretrainEpoch, PretrainMachine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining has given."""

    encoder: Path
    """A safetensors file, for ``--weights``."""
    config: PretrainConfig
    """What it was made of; its `backbone` is the ``--backbone`` that it is of."""
    last: PretrainEpoch
    random_knn_accuracy: float
    """Of the network before its first step, on the images on which the last epoch's `knn_accuracy` was measured."""

    @property
    def summary(self) -> dict[str, Any]:
        """The same as one object for JSON."""
        return {
            "encoder": str(self.encoder),
            "backbone": self.config.backbone,
            "dataset": self.config.data.dataset,
            "epochs": self.last.epoch,
            "loss": self.last.loss,
            "top1": self.last.top1,
            "alignment": self.last.alignment,
            "uniformity": self.last.uniformity,
            "knn_accuracy": self.last.knn_accuracy,
            "random_knn_accuracy": self.random_knn_accuracy,
        }


def run_pretraining(
    config: PretrainConfig, machine: PretrainMachine, output: Path, command: str | None = None
) -> Pretrained:
    """Pretrain an encoder and write it to `output`; one that was interrupted continues, one that is done is left.

    Args:
        config: What to train.
        machine: What this machine gives.
        output: The encoder's file.
        command: What the user types to continue, for the last line after an interruption.

    Raises:
        UsageError: `output` is in use, is another pretraining's, or no file can be there.
        InputError: The data or the network cannot be used.
        HpoError: The loss is no number, or a process ended.
    """
    files = files_of(output)
    with owned(files):
        if files.encoder.exists():
            return _found(files, config)
        with stoppable(command), Screen() as screen:
            return _run(config, machine, files, screen)


def _run(config: PretrainConfig, machine: PretrainMachine, files: PretrainFiles, screen: Screen) -> Pretrained:
    screen.doing(f"opening {config.data.dataset}")
    # torch takes seconds to be imported.
    from trainables.contrastive.together import ProcessEnded, pretrain_together
    from trainables.training.checkpoint import CheckpointError
    from trainables.training.device import is_out_of_memory

    resume_from = files.checkpoint.read_bytes() if files.checkpoint.exists() else None
    last, shown = None, PretrainLine(screen, config.epochs)
    # Epochs that an earlier run trained are yielded again, and no state is saved for them.
    is_new = False

    def save(state: bytes) -> None:
        nonlocal is_new
        is_new = True
        write(files.checkpoint, state)

    try:
        for result in pretrain_together(config, machine, resume_from=resume_from, save=save):
            if isinstance(result, PretrainedEncoder):
                assert last is not None
                write(files.encoder, result.encoder)
                files.checkpoint.unlink(missing_ok=True)
                return Pretrained(files.encoder, config, last, result.random_knn_accuracy)
            if is_new or not result.is_finite:
                shown.show(result)
            if not result.is_finite:
                files.checkpoint.unlink(missing_ok=True)
                raise HpoError(
                    f"the loss is no number in epoch {result.epoch}: lower --learning-rate, or raise --warmup-epochs or"
                    " --temperature."
                )
            last = result
    except CheckpointError as error:
        raise UsageError(
            f"{files.checkpoint} cannot be continued: {error}. Give those options, or another --output, or remove that"
            " file to begin anew."
        ) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            if isinstance(error, ProcessEnded):
                raise HpoError(f"{error}; the same command continues after the last epoch.") from error
            raise
        own = config.batch_size // machine.processes
        at_a_time = machine.machine.micro_batch or own
        raise HpoError(
            f"there is not enough memory for {at_a_time} images at a time: give --micro-batch {max(2, at_a_time // 2)},"
            " with which the loss is still that of the whole batch, or a smaller --image-size."
        ) from error
    raise HpoError("the pretraining ended without an encoder; the same command continues it.")


def _found(files: PretrainFiles, config: PretrainConfig) -> Pretrained:
    """Return what an earlier run of the same pretraining wrote.

    Raises:
        UsageError: The file is another's.
    """
    from trainables.contrastive.checkpoint import differences
    from trainables.contrastive.pretraining import PRETRAINING_KEY, RESULT_KEY

    said = metadata(files.encoder)
    if PRETRAINING_KEY not in said or RESULT_KEY not in said:
        raise UsageError(
            f"{files.encoder} is there already, and no encoder that hpo pretrained; give another --output."
        )
    differing = differences(said[PRETRAINING_KEY], config)
    if differing:
        raise UsageError(
            f"{files.encoder} is there already, pretrained with {'; '.join(differing)}; give another --output."
        )
    files.checkpoint.unlink(missing_ok=True)
    logger.info("%s is there already, pretrained with the same options", files.encoder)
    result = dict(said[RESULT_KEY])
    random_knn_accuracy = result.pop("random_knn_accuracy")
    return Pretrained(files.encoder, config, PretrainEpoch(**result), random_knn_accuracy)
