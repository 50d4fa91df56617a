"""Run the command line as `python -m splitter`, and as `splitter`."""

from splitter.signals import end_at_once, handle


def main() -> None:
    """Run the command line; what ends it while it is imported ends it without a word."""
    handle(end_at_once)
    from splitter.cli import main as run

    run()


if __name__ == "__main__":
    main()
