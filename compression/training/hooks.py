"""What a method does around the steps of a training, besides its loss."""


class StepHooks:
    """Called by the training loop; this base does nothing.

    Whatever the hooks change must be saved with the model, as parameters or buffers: a training that was stopped goes
    on from its checkpoint.

    Example:
        >>> StepHooks().is_candidate()
        True
    """

    def before_step(self, step: int, total_steps: int) -> None:
        """Prepare an optimiser step, before its first forward pass. A step that is stopped within is begun again.

        Args:
            step: number of the step, from 0.
            total_steps: number of all steps.
        """

    def after_step(self) -> None:
        """Follow the optimiser, whose step can no longer be stopped; gradients are still there."""

    def is_candidate(self) -> bool:
        """Whether the weights as they stand may be measured and kept as the best."""
        return True
