"""Clients in JavaScript: ``make test-node`` runs them with Node's own test runner."""
