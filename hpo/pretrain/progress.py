"""What is seen of a pretraining: a line for each epoch; on a terminal it is redrawn, and those with kNN stay."""

from rich.console import RenderableType
from rich.text import Text

from hpo.live.screen import Screen
from trainables.contrastive.config import PretrainEpoch


def line(epoch: PretrainEpoch, epochs: int) -> str:
    """Return an epoch's figures in words."""
    knn = f"  kNN {epoch.knn_accuracy:.4f}" if epoch.knn_accuracy is not None else ""
    return (
        f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  loss {epoch.loss:.3f}  top-1 {epoch.top1:.3f}"
        f"  alignment {epoch.alignment:.3f}  uniformity {epoch.uniformity:.2f}"
        f"  {epoch.images_per_second:.0f} images/s{knn}"
    )


class PretrainLine:
    """The last epoch on the screen."""

    def __init__(self, screen: Screen, epochs: int) -> None:
        self._screen = screen
        self._epochs = epochs
        self._last: str | None = None

    def show(self, epoch: PretrainEpoch) -> None:
        """Show an epoch's figures."""
        if self._last is None:
            self._screen.add(self)
        self._last = line(epoch, self._epochs)
        if not self._screen.is_live or epoch.knn_accuracy is not None:
            self._screen.print(self._last)

    def draw(self, width: int, height: int, *, ascii_only: bool) -> list[RenderableType]:  # noqa: ARG002 - Shown's
        """Return the line."""
        return [Text(self._last or "", overflow="ellipsis", no_wrap=True)] if height > 0 else []
