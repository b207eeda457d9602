"""Hung: requests are at hand and nothing moves. Busy is not hung: tokens are counted, or its cache fills."""

from __future__ import annotations

LIMIT_S = 15.0
HUNG_S = 60.0  # what may come round by itself is given so long
TOKENS = ("prompt_tokens_total", "generation_tokens_total")
# A prompt is counted with its first token only; while its chunks are read, no more than this moves.
CACHE = ("kv_cache_usage_perc", "gpu_cache_usage_perc")  # the second in older versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Standstill:
    """What one scrape of an engine's counters after another says; its fields are the judgement."""

    def __init__(self) -> None:
        self.requests = 0  # that run or wait
        self.moved = self.anew = False  # since the scrape before; anew: it was started again
        self.worked = False  # completions have ended before, and it has taken requests: no first one compiles
        self.seconds = 0.0  # for so long nothing moved though there were requests
        self._shown: tuple[float, ...] = ()
        self._since = 0.0

    def saw(self, counters: Mapping[str, float], now: float, ours: int = 0) -> None:
        """`ours` are requests of the caller: an engine that hangs may not count them any more."""
        counted = counters.get("num_requests_running", 0) + counters.get("num_requests_waiting", 0)
        self.requests = max(int(counted), ours)
        self.worked = bool(counted and counters.get("request_success_total"))
        shown = tuple(counters.get(name, 0.0) for name in TOKENS + CACHE)
        before, self._shown = self._shown, shown
        self.anew = any(new < old for new, old in zip(shown[: len(TOKENS)], before))
        self.moved = bool(before) and shown != before and not self.anew
        if shown != before or not self.requests:
            self._since = now
        self.seconds = now - self._since

    def forget(self) -> None:
        """It was silent: nothing is known of the time between."""
        self._shown = ()

    def words(self) -> str:
        return "%d requests at hand and no token for %d s" % (self.requests, self.seconds)
