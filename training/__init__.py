"""Training of the networks that are in the package; see docs/training.md. Not part of the wheel."""
