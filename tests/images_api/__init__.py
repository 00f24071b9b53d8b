"""Images on every interface of the real server, with the clients that people use."""
