"""Response times of a server that processes one request at a time, with Poisson arrivals."""

from collections.abc import Sequence

import numpy as np


def response_times(service: Sequence[float], rate: float, seed: int) -> np.ndarray:
    """Return waiting plus service time of each request, in seconds.

    `service` has the service times (s) of the requests in the order of arrival; `rate` is the mean
    number of arrivals per second. Each request waits for those before it (Lindley 1952).
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, len(service))
    responses = np.empty(len(service))
    free_after = 0.0  # seconds from an arrival until the server is free
    for place, (gap, seconds) in enumerate(zip(gaps, service, strict=True)):
        free_after = max(0.0, free_after - gap) + seconds
        responses[place] = free_after
    return responses
