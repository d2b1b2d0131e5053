"""Algorithm 1 of the TEMPOS paper (Garbugli et al., IEEE Access 10, 2022) for the method spawn.

The event is {"message": "...", "pattern": "..."}; the answer is {"occurrences":N,"result":X}.
"""

import json
import math


def handle(event):
    message, pattern = deserialise(event.payload)
    if not pattern:
        raise ValueError("the pattern is empty")
    # From the left; what was counted is not counted again.
    occurrences = message.count(pattern)
    return '{"occurrences":%d,"result":%.6f}' % (occurrences, powers_and_roots(occurrences))


def deserialise(payload):
    try:
        members = json.loads(payload)
        message, pattern = members["message"], members["pattern"]
    except (ValueError, KeyError, TypeError):
        message = pattern = None
    if not isinstance(message, str) or not isinstance(pattern, str):
        raise ValueError('the event is not {"message": "...", "pattern": "..."}')
    return message, pattern


def powers_and_roots(count):
    result = 0.0
    for i in range(count):
        result += math.pow(i, 2) if i % 2 == 0 else math.sqrt(i)
    return result
