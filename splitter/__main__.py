"""Run the command line as `python -m splitter`, and as `splitter`."""


def main() -> None:
    """Run the command line; what ends it while it is imported ends it without a word."""
    import _signal  # type: ignore[import-not-found]  # what signal is made of: there is nothing to wait for

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Python's own leaves a traceback
    from splitter.signals import end_at_once, handle

    handle(end_at_once)
    from splitter.cli import main as run

    run()


if __name__ == "__main__":
    main()
