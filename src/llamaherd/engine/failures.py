"""What the server is told about a request that failed."""

from __future__ import annotations

import logging

from llamaherd.errors import LlamaherdError, PromptError
from llamaherd.llama.backend import InvalidText, InvalidToken
from llamaherd.runner.protocol import Failed

logger = logging.getLogger(__name__)


def failure_of(request_id: int, error: BaseException) -> Failed:
    """The answer; anything but a bad request is logged with its traceback."""
    if isinstance(error, (InvalidText, InvalidToken)):
        return Failed(request_id, str(error), PromptError.status)
    if isinstance(error, LlamaherdError):
        return Failed(request_id, error.message, error.status)
    logger.error("request %d failed", request_id, exc_info=error)
    return Failed(request_id, str(error) or type(error).__name__)
