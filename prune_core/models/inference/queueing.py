"""Response times of a server that processes one request at a time, with Poisson arrivals."""

from collections.abc import Sequence

import numpy as np

SIMULATED = 100_000  # requests
SERVER_SEED = 1  # added to the seed of the arrivals


def response_times(service: Sequence[float] | np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Return waiting plus service time of each request, in seconds.

    `service` has the service times (s) of the requests in the order of arrival; `rate` is the mean
    number of arrivals per second. Each request waits for those before it (Lindley 1952).
    """
    n = len(service)
    # evenly spaced quantiles of the exponential distribution in random order: less noise than draws
    quantiles = (np.random.default_rng(seed).permutation(n) + 0.5) / n
    arrivals = np.cumsum(-np.log(quantiles) / rate)
    served = np.cumsum(service)
    # a request ends after its own service and that of all since the last time the server was free
    ends = served + np.maximum.accumulate(arrivals - served + service)
    return ends - arrivals


def percentile(service: np.ndarray, rate: float, q: float, seed: int) -> float:
    """Return the percentile `q` of the response time, in seconds, of many requests.

    Each of the service times `service` (s) is used equally often, in random order. Infinite if the
    server cannot keep up. Requests with an infinite service time have an infinite response time,
    and delay others as long as the longest finite one.
    """
    finite = service.clip(0, service[np.isfinite(service)].max(initial=0.0))
    if rate * finite.mean() >= 1:
        return float("inf")
    order = np.random.default_rng(seed + SERVER_SEED).permutation(SIMULATED)
    places = order * len(service) // SIMULATED
    by_length = np.argsort(service, kind="stable")[places]
    responses = response_times(finite[by_length], rate, seed)
    responses[np.isposinf(service[by_length])] = np.inf
    return float(np.percentile(responses, q, method="higher"))
