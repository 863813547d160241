"""The stages that study files can name."""

from functools import cache

from tasks.stages.base import Stage


@cache
def stages() -> dict[str, Stage]:
    """Every stage by its kind, in the order in which chains usually use them.

    Importing a stage imports neither torch nor transformers: only running it does.

    Returns:
        Kind to stage. Shared: do not change it.

    Example:
        >>> list(stages())[:5]
        ['pretrain', 'general_distill', 'finetune', 'augment', 'task_distill']
    """
    from tasks.stages.augment import Augment
    from tasks.stages.evaluate import Evaluate
    from tasks.stages.factorize import Factorize
    from tasks.stages.finetune import Finetune
    from tasks.stages.general_distill import GeneralDistill
    from tasks.stages.pretrain import Pretrain
    from tasks.stages.prune import Prune
    from tasks.stages.quantize import Quantize
    from tasks.stages.share import Share
    from tasks.stages.task_distill import TaskDistill

    known: tuple[Stage, ...] = (
        *(Pretrain(), GeneralDistill(), Finetune(), Augment(), TaskDistill()),
        *(Factorize(), Share(), Prune()),
        *(Quantize(), Evaluate()),
    )
    return {stage.kind: stage for stage in known}
