"""Jobs that contact other machines, after a run gave up waiting for them."""

from __future__ import annotations

import threading

from aip_plugins.callbacks.background import Background


def test_nothing_is_sent_after_the_end() -> None:
    """Jobs that did not end in time are counted and dropped, so that a resumed run is the only one that sends."""
    done: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        go_on.wait()
        done.append("slow")

    background = Background("The server", retry=True)
    background.submit(slow)
    background.submit(lambda: done.append("next"))
    started.wait()
    assert background.close(0.01) == 2
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "aip callback":
            thread.join()
    assert done == ["slow"]
