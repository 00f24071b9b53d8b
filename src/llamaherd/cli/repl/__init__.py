"""The conversation in a terminal that ``ollama run MODEL`` opens.

What is typed becomes an entry (``entries``), a command becomes what it means (``commands``), and
both change the conversation (``conversation``): all pure. ``editor`` reads lines, ``history``
keeps them, and ``loop`` asks the server and prints.
"""
