"""The one exception tree of the project.

Every message says the subject, what was found, what was expected and what to do next, in one line: command-line programs
print it as it is and leave with `exit_status`.
"""


class DrbaError(Exception):
    """Base of every error this project raises on purpose."""

    exit_status = 1


class InputError(DrbaError):
    """The user gave something that cannot work (a missing file, an unknown model, a malformed rate)."""

    exit_status = 2


class MediaError(DrbaError):
    """A media file or stream cannot be opened, decoded or carried to the player."""

    exit_status = 2


class ProtocolError(DrbaError):
    """A message between player and server is malformed or of another version."""


class ServerError(DrbaError):
    """The interpolation server cannot be started or reached."""


class ModelError(DrbaError):
    """A model is unknown, its weights are missing or they do not fit the network."""

    exit_status = 2


class EngineError(DrbaError):
    """An engine cannot be built, does not compute what it should, or fails while it runs."""
