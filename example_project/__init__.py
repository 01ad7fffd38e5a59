"""Acme Shop: a small web shop that shows django_tasks_seq at work."""
