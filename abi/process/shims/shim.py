# Runs `handle(event)` of a Python source as a resident worker of TEMPOS: frames come on descriptor 3 and answers
# go on 4, so that nothing the function prints can break them. Arguments: mode ("warm" or "zygote"), the file.
import gc
import importlib.util
import os
import signal
import struct
import sys
import traceback

EVENT = struct.Struct("<IHHQQQQBxxxI")
ANSWER = struct.Struct("<IIQII")
ENTRY = struct.Struct("<BBH")
NO_OUTPUT, CRASHED, OVER_MEMORY, BAD_OUTPUT = 256, 257, 258, 259


class Event:
    """An event: `id`, `topic`, `level`, `source_time_ns`, `deadline_ns`, `payload` (bytes), `attributes` (dict)."""

    __slots__ = ("id", "topic", "level", "source_time_ns", "deadline_ns", "payload", "_block", "_attributes")

    @property
    def text(self):
        return self.payload.decode()

    @property
    def attributes(self):
        if self._attributes is None:
            self._attributes = attributes(self._block)
        return self._attributes


def attributes(block):
    found, at = {}, 0
    while at + 4 <= len(block):
        key_bytes, kind, value_bytes = ENTRY.unpack_from(block, at)
        key_end = at + 4 + key_bytes
        key, value = block[at + 4 : key_end].decode(), block[key_end : key_end + value_bytes]
        if kind == 1:
            value = value.decode()
        elif kind == 2:
            value = int.from_bytes(value, "little")
        elif kind == 3:
            value = int.from_bytes(value, "little", signed=True)
        found.setdefault(key, value)
        at = key_end + value_bytes
    return found


def read(count):
    data = os.read(3, count)
    if len(data) == count:
        return data
    parts = [data]
    while data and (count := count - len(data)) > 0:
        data = os.read(3, count)
        parts.append(data)
    return b"".join(parts) if data else b""


def answer(call, status, explanation=b"", payload=b""):
    explanation = explanation[:1024]
    head = ANSWER.pack(20 + len(explanation) + len(payload), status, call, len(explanation), len(payload))
    frame = b"".join((head, explanation, payload))
    sent = os.write(4, frame)
    while sent < len(frame):
        sent += os.write(4, memoryview(frame)[sent:])


def where(error):
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "".join(f" ({os.path.basename(frame.filename)}, line {frame.lineno})" for frame in last)


def work(handle, event, call):
    try:
        result = handle(event)
    except MemoryError:
        return answer(call, OVER_MEMORY, b"MemoryError")
    except Exception as error:
        code = getattr(error, "code", 1)
        code = code if isinstance(code, int) and 1 <= code <= 255 else 1
        return answer(call, code, f"{type(error).__name__}: {error}{where(error)}".encode(errors="replace"))
    if result is None:
        return answer(call, NO_OUTPUT)
    if isinstance(result, str):
        result = result.encode(errors="replace")
    if not isinstance(result, (bytes, bytearray, memoryview)):
        what = f"handle gave back {type(result).__name__}; give back bytes, str or None"
        return answer(call, BAD_OUTPUT, what.encode())
    answer(call, 0, b"", result)


def forked(handle, event, call):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(handle, event, call)
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        answer(call, CRASHED, f"it was ended by signal {number} ({signal.Signals(number).name})".encode())
    elif os.WEXITSTATUS(status) != 0:
        answer(call, CRASHED, b"it ended in the middle of an event")


def main(mode, path):
    sys.argv = sys.argv[2:]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    # What the function starts itself has no business with the frames.
    os.set_inheritable(3, False)
    os.set_inheritable(4, False)
    sys.stdout.reconfigure(line_buffering=True)
    # Named endings only: others are sources, too.
    loader = importlib.machinery.SourceFileLoader("tempos_function", path)
    spec = importlib.util.spec_from_loader("tempos_function", loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tempos_function"] = module
    loader.exec_module(module)
    handle = getattr(module, "handle", None)
    if not callable(handle):
        sys.exit(f"{path} defines no function handle(event)")
    gc.collect()
    gc.freeze()
    run = forked if mode == "zygote" else work
    answer(0, 0)
    while head := read(EVENT.size):
        event = Event()
        (_, topic, block, call, event.id, event.source_time_ns, event.deadline_ns, event.level, payload) = (
            EVENT.unpack(head)
        )
        rest = read(topic + block + payload) if topic + block + payload else b""
        event.topic = rest[:topic].decode()
        event._block, event._attributes = rest[topic : topic + block], None
        event.payload = rest[topic + block :]
        run(handle, event, call)


import importlib.machinery

main(sys.argv[1], sys.argv[2])
