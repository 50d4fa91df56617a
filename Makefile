# What developers do, one word each; CONTRIBUTING.md says more.
.PHONY: check test slow lint types reference site image

check: lint types test

test:
	python -m pytest

slow:
	python -m pytest -m slow

lint:
	ruff check .
	ruff format --check .

types:
	mypy

reference:
	python scripts/reference.py

site:
	mkdocs build --strict

image:
	docker build -t songsplitter .
