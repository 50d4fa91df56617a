"""What is to do, and what is done: songs in folders, and the journal of a run.

folders ── find_songs ──▶ songs ── plan_jobs ──▶ jobs ── Journal.has ──▶ an engine
                                                                 ▲                     │
                                                 splitter.jsonl ─┴──── Journal.add ◀───┘

Nobody holds all songs: each is named, begun and separated as it is found, and how many there are is
counted beside the work. A run that was killed goes on where it stopped; a song that changed, or
failed, is done again.
"""

from splitter.jobs.counting import Count, Extent
from splitter.jobs.finding import (
    Found,
    Search,
    find_left_out,
    find_songs,
    has_sound,
    is_song,
    read_names,
)
from splitter.jobs.journal import JOURNAL, Journal
from splitter.jobs.planning import Job, claim, plan_jobs
from splitter.jobs.segments import open_journal
from splitter.jobs.shards import Shard

__all__ = [
    "JOURNAL",
    "Count",
    "Extent",
    "Found",
    "Job",
    "Journal",
    "Search",
    "Shard",
    "claim",
    "find_left_out",
    "find_songs",
    "has_sound",
    "is_song",
    "open_journal",
    "plan_jobs",
    "read_names",
]
