"""Calls a gRPC service in all four ways, directly or through the proxy, and checks what comes back.

With `--serve PORT` it is the service itself (`PORT` 0 takes a free one), which prints one line of JSON with its port
and ends with its standard input. Messages are plain bytes, so that nothing has to be generated from a description.
Otherwise it prints one line of JSON, or exits 1 with the reason.
"""

import argparse
import json
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "appproxy.Test"
WAIT_S = 60
MESSAGES = 50
LARGE_BYTES = 1_000_000


class Failure(Exception):
    """What did not work, in words."""


class Service(grpc.GenericRpcHandler):
    """The methods, and what has been seen of calls that do not end by themselves."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)

    def service(self, details):
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Download": grpc.unary_stream_rpc_method_handler(self.download),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "Refuse": grpc.unary_unary_rpc_method_handler(self.refuse),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Arrived": grpc.unary_unary_rpc_method_handler(lambda _message, _context: wait_for(self.arrived)),
            "Cancelled": grpc.unary_unary_rpc_method_handler(lambda _message, _context: wait_for(self.cancelled)),
        }
        return kinds.get(details.method.rpartition("/")[2])

    def unary(self, message: bytes, context) -> bytes:
        sent = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-first", sent.get("x-word", "")),))
        context.set_trailing_metadata((("x-last", sent.get("x-word", "")), ("x-last-bin", b"\x00\xff")))
        return message

    def upload(self, messages, _context) -> bytes:
        return b"".join(messages)

    def download(self, message: bytes, _context):
        for number in range(int(message)):
            yield b"%d" % number

    def talk(self, messages, _context):
        yield from messages

    def refuse(self, message: bytes, context) -> bytes:
        context.set_trailing_metadata((("x-last", "refused"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, message.decode())

    def sleep(self, _message: bytes, context) -> bytes:
        ended = threading.Event()
        context.add_callback(ended.set)
        self.arrived.release()
        ended.wait(WAIT_S)
        self.cancelled.release()
        return b""


def wait_for(event: threading.Semaphore) -> bytes:
    return b"yes" if event.acquire(timeout=WAIT_S) else b"no"


def serve(port: int) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), handlers=[Service()])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(json.dumps({"port": bound}), flush=True)
    sys.stdin.read()
    server.stop(None).wait()


def expect(what: str, found, wanted) -> None:
    if found != wanted:
        raise Failure(f"{what}: {found!r}, expected {wanted!r}")


def check(channel: grpc.Channel) -> list[str]:
    """Every kind of call; returns their names."""
    path = f"/{SERVICE}/"
    unary = channel.unary_unary(path + "Unary")
    answer, call = unary.with_call(b"\x00\x01\x02", metadata=(("x-word", "hello"),), timeout=WAIT_S)
    expect("a unary call", answer, b"\x00\x01\x02")
    expect("its first metadata", dict(call.initial_metadata()).get("x-first"), "hello")
    expect("its last metadata", dict(call.trailing_metadata()).get("x-last"), "hello")
    expect("its binary metadata", dict(call.trailing_metadata()).get("x-last-bin"), b"\x00\xff")
    large = bytes(range(256)) * (LARGE_BYTES // 256)
    expect("a large message", unary(large, timeout=WAIT_S) == large, True)

    upload = channel.stream_unary(path + "Upload")
    numbers = [b"%d" % number for number in range(MESSAGES)]
    expect("an upload", upload(iter(numbers), timeout=WAIT_S), b"".join(numbers))

    download = channel.unary_stream(path + "Download")
    expect("a download", list(download(b"%d" % MESSAGES, timeout=WAIT_S)), numbers)

    check_talk(channel.stream_stream(path + "Talk"), numbers)
    check_refusal(channel.unary_unary(path + "Refuse"))

    sleep = channel.unary_unary(path + "Sleep")
    arrived, cancelled = channel.unary_unary(path + "Arrived"), channel.unary_unary(path + "Cancelled")
    expect("a deadline", code_of(lambda: sleep(b"", timeout=1)), grpc.StatusCode.DEADLINE_EXCEEDED)
    expect("the server has had it", arrived(b"", timeout=WAIT_S), b"yes")
    expect("the server has seen its end", cancelled(b"", timeout=WAIT_S), b"yes")
    call = sleep.future(b"", timeout=WAIT_S)
    expect("the server has a call to be cancelled", arrived(b"", timeout=WAIT_S), b"yes")
    call.cancel()
    expect("a cancelled call", call.code(), grpc.StatusCode.CANCELLED)
    expect("the server has seen that", cancelled(b"", timeout=WAIT_S), b"yes")
    unknown = channel.unary_unary(path + "Unknown")
    expect("an unknown method", code_of(lambda: unknown(b"", timeout=WAIT_S)), grpc.StatusCode.UNIMPLEMENTED)
    return ["unary", "upload", "download", "talk", "status", "deadline", "cancel"]


def check_talk(talk, numbers: list[bytes]) -> None:
    """Each message is sent when the answer to the one before it is there, so neither side may be held back."""
    turns = threading.Semaphore(1)

    def messages():
        for number in numbers:
            turns.acquire()
            yield number

    answers = []
    for answer in talk(messages(), timeout=WAIT_S):
        answers.append(answer)
        turns.release()
    expect("a talk", answers, numbers)


def check_refusal(refuse) -> None:
    try:
        refuse("not now, grüße".encode(), timeout=WAIT_S)
    except grpc.RpcError as error:
        expect("a status", error.code(), grpc.StatusCode.FAILED_PRECONDITION)
        expect("its message", error.details(), "not now, grüße")
        expect("its metadata", dict(error.trailing_metadata()).get("x-last"), "refused")
    else:
        raise Failure("a call that is refused has an answer")


def code_of(call) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--serve", type=int, metavar="PORT", help="be the service")
    what.add_argument("--address", help="where the service is, HOST:PORT")
    parser.add_argument("--status", help="only make one call, and print its status: the edge's own errors")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return 0
    with grpc.insecure_channel(arguments.address) as channel:
        try:
            if arguments.status:
                unary = channel.unary_unary(f"/{SERVICE}/Unary")
                code = code_of(lambda: unary(b"", timeout=WAIT_S))
                expect("the status", code.name, arguments.status)
                print(json.dumps({"ok": True, "status": code.name}))
            else:
                print(json.dumps({"ok": True, "checked": check(channel)}))
        except (Failure, grpc.RpcError) as failure:
            print(f"grpc_driver: {arguments.address}: {type(failure).__name__}: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
