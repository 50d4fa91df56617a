"""Who separates many songs: this machine (`local`), or a cluster (`cluster`).

An engine takes jobs and yields an outcome for each, in the order in which they end.
"""

from splitter.engines.worker import Outcome

__all__ = ["Outcome"]
