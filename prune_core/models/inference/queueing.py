"""Response times of a server that answers one request at a time, under a Poisson load."""

from collections.abc import Sequence

import numpy as np


def response_times(service: Sequence[float], rate: float, seed: int) -> np.ndarray:
    """Return waiting plus service time of each request, in seconds.

    `service` are the times of the requests in the order of their arrival, `rate` the mean number of
    arrivals per second. A request waits until those before it have been answered (Lindley 1952).
    """
    gaps = np.random.default_rng(seed).exponential(1 / rate, len(service))
    responses = np.empty(len(service))
    free_after = 0.0  # seconds from an arrival until the server is free
    for place, (gap, seconds) in enumerate(zip(gaps, service, strict=True)):
        free_after = max(0.0, free_after - gap) + seconds
        responses[place] = free_after
    return responses
