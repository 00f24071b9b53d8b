"""One process per loaded model: the messages, the server's side and the runner's side."""
