"""The errors a user can meet: one clear sentence each, with the exit code of the contract."""


class DescribeError(Exception):
    """Something failed; the message is one sentence that says what to do. Exit code 1."""

    exit_code = 1


class InputError(DescribeError):
    """What the user gave cannot be used (model, file, option, relation, query). Exit code 2."""

    exit_code = 2


class CatalogueError(DescribeError):
    """The catalogue file cannot be opened, read or written as asked. Exit code 1."""


class BudgetError(DescribeError):
    """A limit set by the user was reached; what was done so far is kept. Exit code 4."""

    exit_code = 4
