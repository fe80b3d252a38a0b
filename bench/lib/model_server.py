#!/usr/bin/env python3
"""A lean Responses server for timing: the same for everyone who is measured.

Every answer is rendered before the first request, which turn to play is found by counting the tool
outputs in the request's bytes (nothing is parsed), and the clock is read when a request is wholly
received and when its answer is wholly sent. So the time from one to the next is the client's own.

    model_server.py --script SCRIPT.json --log LOG.json [--bodies DIR] [--hold TURN]

The script is a list of turns, each a list of output items; `{"repeat": N, "turn": [...]}` stands for
N equal turns. The last turn answers whatever comes after it. It prints its port, and writes the log
when it is told to stop (SIGTERM). With --hold the first request for that turn is answered only
after SIGUSR1.
"""
import argparse
import json
import os
import signal
import socket
import sys
import threading
import time

OUTPUT_MARK = b'_call_output"'


def expand(script):
    turns = []
    for turn in script:
        if isinstance(turn, dict):
            turns += [turn["turn"]] * turn["repeat"]
        else:
            turns.append(turn)
    return turns


def items_of(turn, number):
    items = []
    for index, item in enumerate(turn):
        suffix = f"{number:06d}_{index}"
        if item["type"] == "message":
            part = {"type": "output_text", "text": item["text"], "annotations": [], "logprobs": []}
            items.append({"id": f"msg_{suffix}", "type": "message", "role": "assistant",
                          "status": "completed", "content": [part]})
        elif item["type"] == "function_call":
            items.append({"id": f"fc_{suffix}", "type": "function_call", "call_id": f"call_{suffix}",
                          "name": item["name"], "arguments": json.dumps(item["arguments"]),
                          "status": "completed"})
        else:
            items.append({"id": f"ctc_{suffix}", "type": "custom_tool_call",
                          "call_id": f"call_{suffix}", "name": item["name"], "input": item["input"]})
    return items


def response_of(turn, number):
    usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
             "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 110}
    return {"id": f"resp_{number:06d}", "object": "response", "created_at": 1780000000,
            "status": "completed", "completed_at": 1780000000, "error": None,
            "incomplete_details": None, "instructions": None, "max_output_tokens": None,
            "metadata": {}, "model": "gpt-5.5", "output": items_of(turn, number),
            "parallel_tool_calls": True, "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None}, "store": False, "temperature": 1.0,
            "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "truncation": "disabled", "usage": usage, "user": None}


def item_events(index, item):
    place = {"output_index": index, "item_id": item["id"]}
    begin = {**item, **({"status": "in_progress"} if "status" in item else {})}
    if item["type"] == "message":
        part, at = item["content"][0], {**place, "content_index": 0}
        yield {"type": "response.output_item.added", "output_index": index, "item": {**begin, "content": []}}
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        yield {"type": "response.output_text.delta", **at, "delta": part["text"], "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": part}
    elif item["type"] == "function_call":
        yield {"type": "response.output_item.added", "output_index": index, "item": {**begin, "arguments": ""}}
        yield {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **place, "name": item["name"],
               "arguments": item["arguments"]}
    else:
        yield {"type": "response.output_item.added", "output_index": index, "item": {**begin, "input": ""}}
        yield {"type": "response.custom_tool_call_input.delta", **place, "delta": item["input"]}
        yield {"type": "response.custom_tool_call_input.done", **place, "input": item["input"]}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def answers(turn, number):
    """The bytes of both forms of an answer: a stream of events, and one object."""
    response = response_of(turn, number)
    open_response = {**response, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
    events = [{"type": "response.created", "response": open_response},
              {"type": "response.in_progress", "response": open_response}]
    for index, item in enumerate(response["output"]):
        events += item_events(index, item)
    events.append({"type": "response.completed", "response": response})
    stream = "".join(f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': n})}\n\n"
                     for n, event in enumerate(events)).encode()
    whole = json.dumps(response).encode()
    return http(stream, "text/event-stream; charset=utf-8"), http(whole, "application/json")


def http(body, kind, status="200 OK"):
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Server:
    def __init__(self, options):
        self.answers = [answers(turn, n) for n, turn in enumerate(expand(json.load(open(options.script))))]
        self.hold = options.hold
        self.released = threading.Event()
        self.bodies = options.bodies
        self.log = []
        self.lock = threading.Lock()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held = bytearray()
        try:
            while self.exchange(connection, held):
                pass
        except OSError:
            pass
        finally:
            connection.close()

    def exchange(self, connection, held):
        request = receive(connection, held)
        if request is None:
            return False
        received = time.monotonic_ns()
        line, body = request
        if not line.startswith(b"POST /v1/responses "):
            reply = http(b'{"object":"list","data":[]}', "application/json")
            connection.sendall(reply)
            return True
        turn = body.count(OUTPUT_MARK)
        stream, whole = self.answers[min(turn, len(self.answers) - 1)]
        wants_stream = b'"stream":true' in body or b'"stream": true' in body
        entry = {"turn": turn, "received_ns": received, "bytes": len(body), "sent_ns": None}
        with self.lock:
            self.log.append(entry)
            number = len(self.log) - 1
            wait = self.hold == turn
            if wait:
                self.hold = None
        if self.bodies:
            with open(f"{self.bodies}/{number:06d}.json", "wb") as file:
                file.write(body)
        if wait:
            print(f"holding {turn}", flush=True)
            self.released.wait()
        connection.sendall(stream if wants_stream else whole)
        entry["sent_ns"] = time.monotonic_ns()
        return True


def receive(connection, held):
    """One request: its first line and its body. None at the end of the connection."""
    while (end := held.find(b"\r\n\r\n")) < 0:
        more = connection.recv(1 << 20)
        if not more:
            return None
        held += more
    head = bytes(held[:end])
    length = 0
    for field in head.split(b"\r\n")[1:]:
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if name.lower() == b"expect":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if name.lower() == b"transfer-encoding":
            raise OSError("the server for timing takes bodies of a known length only")
    del held[: end + 4]
    while len(held) < length:
        more = connection.recv(1 << 20)
        if not more:
            return None
        held += more
    body = bytes(held[:length])
    del held[:length]
    return head.split(b"\r\n", 1)[0], body


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--script", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--bodies")
    parser.add_argument("--hold", type=int)
    options = parser.parse_args()
    server = Server(options)

    def stop(*_):
        with open(options.log, "w") as file:
            json.dump(server.log, file)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *_: server.released.set())
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=accept, args=(listener, server), daemon=True).start()
    while True:
        signal.pause()


def accept(listener, server):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=server.serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    main()
