"""The exceptions and warnings of the package.

Each exception is a ``PythiaError`` and also what Python itself raises in such a case, so either can be caught. The text
is one line: where, what was found, what was wanted.
"""


class PythiaError(Exception):
    """Any error of this package."""


class UsageError(PythiaError, ValueError):
    """The call asks for something that cannot be: a setting out of its range, an unknown name."""


class DataError(PythiaError, ValueError):
    """A file, a text or a model is malformed or does not fit."""


class FileError(PythiaError, OSError):
    """The system, the network or a device failed or refused."""


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file or folder."""


class ForbiddenFileError(FileError, PermissionError):
    """The system does not allow to read or write a file."""


class ExistingFileError(UsageError, FileExistsError):
    """An output is there already, and ``force`` was not given."""


class PythiaWarning(UserWarning):
    """A note about a conversion or a comparison: something may not be as the caller thinks."""
