"""The call that makes a loader for evaluation."""

from typing import Any, Unpack, cast

from memxlnet.errors import SettingsError
from memxlnet.load.create import Loader, create_dataloader
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.options import LoaderOptions
from memxlnet.load.segment_metadata import METADATA
from memxlnet.settings import check_bool


def create_evaluation_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    num_workers: int = 0,
    use_time_step_major: bool = True,
    **options: Unpack[LoaderOptions],
) -> Loader:
    """Make a loader that reads every document exactly once, in order, with what belongs to its segments.

    It is `create_dataloader` with ``evaluation=True``, without a shuffle, and with all the metadata of a segment
    (texts, offsets, spans) unless `metadata` says which; ``metadata=False`` spares the time of reading them. Its
    ``rows`` are what `AnswerCollector.add` takes. ``max_segments`` cuts documents short, so that a collector misses
    rows; ``group_by_length`` and refilled lanes read the documents in another order, each of them still once.
    Unlabelled documents are read as well, with the positions of unanswerable ones.

    Args:
        dataset: A dataset over a cache.
        batch_size: Lanes of a step, or segments in a batch.
        num_workers: As in `create_dataloader`.
        use_time_step_major: True for documents fed segment by segment, distributed over all ranks; False for batches of
            segments from a torch `DataLoader`, which knows nothing of ranks.
        **options: As in `create_dataloader`.

    Raises:
        SettingsError: An argument is wrong, or would leave something out or change the order.
    """
    given = cast(dict[str, Any], options)
    if check_bool("shuffle", given.pop("shuffle", False)):
        raise SettingsError(
            "shuffle: expected False for evaluation, which reads documents in order, found True; create_dataloader "
            "with evaluation=True reads every document once in another order"
        )
    if not check_bool("evaluation", given.pop("evaluation", True)):
        raise SettingsError("evaluation: expected True, found False; create_dataloader makes all other loaders")
    given["evaluation"] = True
    given.setdefault("metadata", METADATA)
    return create_dataloader(dataset, batch_size, False, num_workers, use_time_step_major, **options)
