"""Evaluation: songs of a data set and systems → scores → `scores.json` and a table.

data set ── songs ──┐
models, folders of  ├─ scoring (in processes) ──▶ journal ──▶ summary ──▶ scores.json, table
stems, baselines ───┘       a line a song ──▲
"""
