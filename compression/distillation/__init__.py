"""Knowledge distillation: losses and the training of a student on a task."""
