"""Without transformers there is nothing to compare with."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("transformers") and find_spec("torch") else ["test_*.py"]
