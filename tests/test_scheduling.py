"""Which worker of a cluster gets which songs, by a clock of the test's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scripts import nodes
from splitter.engines.scheduling import AHEAD, LEAST_WINDOW, OVERHEAD, TRIES, WINDOW, Hand, Schedule
from splitter.jobs import Job


def make_jobs(*sizes: int) -> list[Job]:
    return [Job(Path(f"{index}.wav"), {}, size) for index, size in enumerate(sizes)]


def names(jobs: list[Job]) -> str:
    return " ".join(job.song.stem for job in jobs)


def test_the_longest_songs_go_first_and_a_worker_has_one_more_than_it_works_on() -> None:
    schedule, hand = Schedule(make_jobs(3, 9, 1, 9, 5)), Hand(at_once=2)
    assert names(schedule.draw(hand, 0)) == "1 3 4"
    assert not schedule.draw(hand, 1)
    schedule.end(hand, [Path("3.wav")], 2)
    assert names(schedule.draw(hand, 2)) == "0"


def test_no_song_waits_behind_long_ones() -> None:
    schedule, hand = Schedule(make_jobs(*[OVERHEAD] * 6, *[100 * OVERHEAD] * 9)), Hand(at_once=2)
    long = schedule.draw(hand, 0)
    assert len(long) == 3  # nothing is known of it yet
    for number, job in enumerate(long):
        schedule.end(hand, [job.song], 100 * (number + 1))
    assert len(schedule.draw(hand, 300)) == 2
    short = Hand(at_once=2, done=2 * OVERHEAD, taken=1)
    for job in make_jobs(1, 2):
        short.songs[job.song] = job
    assert not short.is_full


def test_a_worker_gets_as_many_short_songs_as_it_does_in_a_while() -> None:
    schedule, hand = Schedule(make_jobs(*[0] * 1000)), Hand(at_once=1)
    schedule.end(hand, [job.song for job in schedule.draw(hand, 0)], 0.1)  # 20 a second
    drawn = schedule.draw(hand, 0.1)
    assert len(drawn) == AHEAD * 20
    first, second, *rest = (job.song for job in drawn)
    schedule.end(hand, [first], 0.15)
    schedule.end(hand, [second], 0.15)  # a moment later: no sign of a thousand a second
    assert len(schedule.draw(hand, 0.15)) < AHEAD * 30
    schedule.end(hand, rest, 60.15)  # slower now: 0.65 a second
    assert 0.6 * OVERHEAD < hand.speed < 0.8 * OVERHEAD


def test_no_more_songs_are_asked_for_than_a_window_holds() -> None:
    asked = []

    def plan() -> Iterator[Job]:
        for job in make_jobs(*range(20_000)):
            asked.append(job)
            yield job

    schedule = Schedule(plan())
    schedule.expect(100)
    assert len(schedule.draw(Hand(at_once=2), 0)) == 3
    assert len(asked) <= LEAST_WINDOW + 8  # the first songs do not wait for all of it
    for _ in range(3000):
        schedule.draw(Hand(at_once=2), 0)
    assert len(asked) - 3001 * 3 == 100 * WINDOW - 1


def test_what_a_worker_does_not_do_goes_to_others() -> None:
    schedule, first, second = Schedule(make_jobs(1, 2, 3)), Hand(at_once=2), Hand(at_once=2)
    schedule.draw(first, 0)
    assert not schedule.is_over and not schedule.draw(second, 0)
    assert not schedule.give_back(first, died=False)
    assert names(schedule.draw(second, 1)) == "2 1 0"
    schedule.end(second, [Path(f"{index}.wav") for index in range(3)], 2)
    assert schedule.is_over


def test_songs_of_workers_that_died_wait_for_the_end_and_are_done_alone() -> None:
    schedule, hand = Schedule(make_jobs(1, 2, 3, 4)), Hand(at_once=1)
    assert names(schedule.draw(hand, 0)) == "3 2"
    assert not schedule.give_back(hand, died=True)
    hand = Hand(at_once=1)
    assert names(schedule.draw(hand, 1)) == "1 0"
    schedule.end(hand, [Path("1.wav")], 2)
    assert not schedule.draw(hand, 2)
    schedule.end(hand, [Path("0.wav")], 2)
    for song, died, deadly in (("3", True, ""), ("2", False, ""), ("3", True, "3")):
        assert names(schedule.draw(hand, 3)) == song
        if died:
            assert names(schedule.give_back(hand, died)) == deadly
            hand = Hand(at_once=1)
        else:
            schedule.end(hand, [Path(f"{song}.wav")], 4)
    assert schedule.is_over and TRIES == 3


def test_a_simulated_cluster_that_loses_nodes_does_all_songs_as_it_did_before() -> None:
    """The proof in small: python -m scripts.nodes runs it in full."""
    songs = list(nodes.make_songs(400, seed=1))
    lengths = {job.song: length for job, length in songs}
    ends = []
    for _ in range(2):
        run = nodes.Simulation([job for job, _ in songs], lengths, seed=2, most=nodes.ALONE)
        run.run(nodes=4, losses=60)
        assert run.lost > 0 and run.left == 0 and run.schedule.is_over
        ends.append((run.now, run.working, run.lost))
    assert ends[0] == ends[1]
    assert run.working >= sum(lengths.values()) / nodes.SPEED  # what was lost was done again
    assert run.now > run.working / nodes.AT_ONCE / 4
