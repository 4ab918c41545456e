"""Libraries that report their own work while converting a model are kept off the user's terminal."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_conversion() -> Iterator[None]:
    """No warnings, bars or log lines of transformers, PyTorch and OpenVINO's quantisation inside."""
    import rich
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in ("torch", "nncf")}
    console = rich.get_console()  # that of the quantisation's bars
    was_quiet, console.quiet = console.quiet, True
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in loggers.items():
            logger.setLevel(level)
        console.quiet = was_quiet
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
