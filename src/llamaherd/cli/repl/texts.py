"""What a conversation says about itself."""

from __future__ import annotations

from typing import Final

_OVERVIEW: Final = '''\
Available Commands:
  /set            Change how this session works
  /show           Tell about the model
  /load <model>   Go on with another model or a saved session
  /save <model>   Save this session as a model
  /clear          Forget what was said so far
  /bye            Leave
  /?, /help       This help; /? set and /? show tell more
  /? shortcuts    Keys that edit a line

Use """ to begin a message of several lines.
'''
_IMAGES: Final = "Use /path/to/file to include .jpg, .png, or .webp images.\n"

SET: Final = """\
Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set the system message
  /set history           Keep what is typed from now on
  /set nohistory         Don't keep what is typed
  /set wordwrap          Break lines between words
  /set nowordwrap        Leave lines as they come
  /set format json       Have replies be JSON
  /set noformat          Have replies be as the model likes
  /set verbose           Print timings after replies
  /set quiet             Print no timings
  /set think             Let the model think before it answers
  /set nothink           Let the model answer at once

"""

SHOW: Final = """\
Available Commands:
  /show info         Size, capabilities, parameters
  /show license      Its licence
  /show modelfile    The Modelfile that makes it
  /show parameters   Parameters, the model's and this session's
  /show system       The system message
  /show template     The template of its prompts

"""

SHORTCUTS: Final = """\
Available keyboard shortcuts:
  Ctrl + a            Go to the beginning of the line (Home)
  Ctrl + e            Go to the end of the line (End)
   Alt + b            Go back one word
   Alt + f            Go forward one word
  Ctrl + k            Delete what is right of the cursor
  Ctrl + u            Delete what is left of the cursor
  Ctrl + w            Delete the word left of the cursor
  Ctrl + r            Look for a line that was typed before

  Ctrl + l            Clear the screen
  Ctrl + c            Stop the reply
  Ctrl + d            Leave (/bye)

"""

PARAMETERS: Final = """\
Available Parameters:
  /set parameter seed <int>             Makes replies repeatable
  /set parameter num_predict <int>      Longest reply, in tokens
  /set parameter top_k <int>            Choose among so many tokens
  /set parameter top_p <float>          Choose among tokens of this probability together
  /set parameter min_p <float>          Least probability, as a part of the likeliest token's
  /set parameter num_ctx <int>          Size of the context, in tokens
  /set parameter temperature <float>    How freely to choose
  /set parameter repeat_penalty <float> How much to avoid what was said already
  /set parameter repeat_last_n <int>    How far back that counts, in tokens
  /set parameter num_gpu <int>          Layers to put on the GPU
  /set parameter stop <string> <string> ...   Texts at which a reply ends

"""

NO_SUCH_FORMAT: Final = "Invalid or missing format. For 'json' mode use '/set format json'\n"

INTERRUPTED: Final = "\nUse Ctrl + d or /bye to exit."


def overview(*, sees: bool) -> str:
    """``sees``: the model takes images."""
    return _OVERVIEW + (_IMAGES if sees else "") + "\n"


def unknown(command: str) -> str:
    return f"Unknown command '{command}'. Type /? for help\n"
