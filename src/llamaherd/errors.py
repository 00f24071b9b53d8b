"""Every error that a user can meet, as one tree.

The HTTP status and the message live with the exception, never in the routes::

    LlamaherdError                  500
    ├── BadRequest                  400  the request itself is wrong
    │   ├── FieldError              400  one field of it, which is named
    │   ├── InvalidName             400  a model name that can't be one
    │   ├── InvalidDigest           400  not sha256:<64 hex digits>
    │   ├── Unsupported             400  the model lacks a capability
    │   ├── FormatError             400  a form of the reply that can't be kept
    │   └── PromptError             400  this text can't go to this model
    │       ├── ContextExceeded     400  nor any of its length
    │       └── ImagesExceedContext 400  nor can it be cut, for its images
    ├── Forbidden                   403  Host or Origin not allowed
    ├── NotFound                    404
    │   └── ModelNotFound           404
    ├── Overloaded                  503  the queue is full
    ├── ShuttingDown                503  the server is about to end
    ├── OptionError                 500  an option of the wrong kind (Ollama's status)
    │   └── OptionOutOfRange        400  an option that no model can have
    ├── TemplateError               500  a template that doesn't parse or execute (Ollama's status)
    │   └── TemplateRefusal         400  a template that doesn't take these messages
    ├── ModelfileError              400  with the line
    ├── InvalidGGUF                 400  a file that isn't a sound GGUF
    ├── StoreError                  500  disk full, not writable, damaged
    ├── ConversionFailed            500  the process that converts a model came to a bad end
    ├── LoadError                   500  a runner could not load its model
    │   └── LoadTimeout             500
    ├── RunnerDied                  500  a runner went away under its requests
    ├── RegistryError               500  a registry refused, or answered what can't be right
    │   ├── NotInRegistry           500  it has no such model or blob (Ollama's status)
    │   └── RegistryUnavailable     500  no answer or a broken one; trying again may help
    │       └── RegistryBusy        500  an answer that asks to try again
    ├── ConfigError                 500  an environment variable that makes no sense
    ├── ServerUnreachable           502  our own client finds no server
    └── ServerError                 what a server answered to our own client, with its status
"""

from __future__ import annotations


class LlamaherdError(Exception):
    """Base of all errors with a message meant for the user."""

    status = 500

    @property
    def message(self) -> str:
        return str(self)


class BadRequest(LlamaherdError):
    status = 400


class FieldError(BadRequest):
    """``field`` is wrong, a path as ``messages[0].content``, in the way that ``code`` tells.

    The codes are those of OpenAI's API.
    """

    def __init__(self, message: str, field: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class InvalidName(BadRequest):
    def __init__(self, message: str = "invalid model name") -> None:
        super().__init__(message)


class InvalidDigest(BadRequest):
    def __init__(self, message: str = "invalid digest format") -> None:
        super().__init__(message)


class Unsupported(BadRequest):
    """The model lacks a capability that the request needs."""


class FormatError(BadRequest):
    """What ``format`` asks for is no form, or one that can't be guaranteed."""


class PromptError(BadRequest):
    """The prompt can't be given to this model."""


class ContextExceeded(PromptError):
    """A prompt of ``tokens`` tokens, which must not be cut, for a context of ``limit``."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__("the input length exceeds the context length")
        self.tokens = tokens
        self.limit = limit


class ImagesExceedContext(PromptError):
    """A prompt of ``tokens`` tokens, of them ``of_images``, of which the context of ``limit`` can't
    hold enough to show all images."""

    def __init__(self, tokens: int, of_images: int, limit: int) -> None:
        super().__init__(
            f"the prompt takes {tokens} tokens, {of_images} of them for images, and can't be cut to"
            f" fit the context of {limit}"
        )


class Forbidden(LlamaherdError):
    status = 403


class NotFound(LlamaherdError):
    status = 404


class ModelNotFound(NotFound):
    """Ollama words this differently by endpoint, so callers may pass the whole message."""

    def __init__(self, name: str, message: str | None = None) -> None:
        super().__init__(message or f"model '{name}' not found")


class Overloaded(LlamaherdError):
    status = 503

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class ShuttingDown(LlamaherdError):
    status = 503

    def __init__(self) -> None:
        super().__init__("server is shutting down")


class OptionError(LlamaherdError):
    """An option of the wrong type."""


class OptionOutOfRange(OptionError):
    """An option outside its range. Ollama knows no ranges, so the status is the one that fits."""

    status = 400


class TemplateError(LlamaherdError):
    """A prompt template that does not parse or fails while it runs."""


class TemplateRefusal(TemplateError):
    """The template itself says that it can't take these messages, such as a system message."""

    status = 400


class ModelfileError(BadRequest):
    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"(line {line}): {message}")
        self.line = line


class InvalidGGUF(BadRequest):
    """A file that is not a sound GGUF; the message says where and why."""


class StoreError(LlamaherdError):
    """The model store can't be read or written."""


class ConversionFailed(LlamaherdError):
    """The process that converts a model crashed or was killed."""


class LoadError(LlamaherdError):
    """A runner could not load its model; ``signal`` is what killed it, None if nothing did."""

    def __init__(self, message: str, signal: int | None = None) -> None:
        super().__init__(message)
        self.signal = signal


class LoadTimeout(LoadError):
    """Loading made no progress within OLLAMA_LOAD_TIMEOUT."""


class RunnerDied(LlamaherdError):
    """A runner process ended while it still had requests."""


class RegistryError(LlamaherdError):
    """A registry refused a request, or its answer can't be accepted."""


class NotInRegistry(RegistryError):
    def __init__(self, message: str = "file does not exist") -> None:
        super().__init__(message)


class RegistryUnavailable(RegistryError):
    """A registry can't be reached or breaks off; the same request may succeed later."""


class RegistryBusy(RegistryUnavailable):
    """A registry answers with a status that passes, such as 503."""


class ConfigError(LlamaherdError):
    """An environment variable with a value that can't be used."""


class ServerUnreachable(LlamaherdError):
    """Our own client can't reach a server, or what answers isn't one."""

    status = 502


class ServerError(LlamaherdError):
    """An error that a server reported to our own client; ``status`` is the server's."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status
