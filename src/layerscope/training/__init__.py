"""Training and watching it: the small pair of models that is trained here, and a callback that measures a training run."""
