"""A TEMPOS function: answers a text with the same in capital letters.

`event` has payload (bytes), attributes (dict), topic and id. What is given back is the output (str or bytes), None
is no output, an exception is a failure.
"""


def handle(event):
    if not event.payload:
        raise ValueError("the event is empty")
    return event.payload.decode().upper()
