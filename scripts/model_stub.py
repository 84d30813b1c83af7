#!/usr/bin/env python3
"""A stand-in for a model provider: deterministic, on loopback, standard library only.

    model_stub.py [--port N] [--key-env NAME] [--log FILE]

Speaks OpenAI's `/v1/chat/completions` and `/v1/models` and Anthropic's `/v1/messages`, whole and
streamed. Prints `listening on http://127.0.0.1:PORT` once it serves (`--port 0`: any free port).

What it says comes from the messages it is sent, and from nothing else:
- the last message is a tool's result: it repeats the results of that round;
- the user asks for the weather or the time and a tool whose name or description says so is offered:
  it calls that tool (the first word with a capital after "in" or "for" fills its string arguments);
- "What is my name?": the last name a user message gave ("my name is Ada", "I am Ada", "call me Ada");
- "What did I say?": the user message before;
- else: `You said: …`.

Tokens: for a text, (bytes of UTF-8 + 3) // 4, at least 1. Prompt: that of each message's text and of
its tool calls' arguments (as JSON without spaces), and 4 for each message. Completion: that of the
answer's text, or of the tool call's name and arguments. Nothing is cached or reasoned.

With `--key-env NAME`, requests must bear the value of that variable as Bearer token or `x-api-key`
(401 otherwise). `--log FILE` gets one JSON line for each request: path, model, stream, messages,
tools offered, status, usage, `authorized`, `headers` (names only); never the key.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DEFAULT_MODEL = "gpt-4o-mini"
MODELS = (DEFAULT_MODEL, "gpt-4o", "gpt-4.1-mini", "claude-haiku-4-5")
TOPICS = ("weather", "time")
NAME = re.compile(r"\b(?:my name is|i am|i'm|call me)\s+([A-Z][\w'-]*)", re.IGNORECASE)
PLACE = re.compile(r"\b(?:in|for|at)\s+([A-Z][\w'-]*(?:\s[A-Z][\w'-]*)*)")


def text_of(content):
    """The text of a message's content in either API's form."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif part.get("type") in ("text", "input_text", "output_text"):
            parts.append(part.get("text", ""))
        elif part.get("type") == "tool_result":
            parts.append(text_of(part.get("content")))
    return "".join(parts)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def tokens(text):
    return max(1, (len(text.encode("utf-8", "replace")) + 3) // 4)


def normalized(messages, system=None):
    """Both APIs' messages as (role, text, arguments of tool calls); tool results have role "tool"."""
    found = []
    if system:
        found.append(("system", text_of(system), ""))
    for message in messages:
        role, content = message.get("role", "user"), message.get("content")
        calls = "".join(call["function"].get("arguments", "") for call in message.get("tool_calls") or ())
        if isinstance(content, list):
            calls += "".join(compact(part.get("input")) for part in content if part.get("type") == "tool_use")
            results = [part for part in content if part.get("type") == "tool_result"]
            found += [("tool", text_of([part]), "") for part in results]
            content = [part for part in content if part not in results]
            if results and not content:
                continue
        found.append(("system" if role == "developer" else role, text_of(content), calls))
    return found


def prompt_tokens(messages):
    return sum(4 + (tokens(text) if text else 0) + (tokens(calls) if calls else 0) for _, text, calls in messages)


def choose_tool(question, tools):
    """The first offered tool for a topic that the question names: (name, arguments), or None."""
    words = re.findall(r"[a-z]+", question.lower())
    for topic in TOPICS:
        if topic not in words:
            continue
        for name, description, schema in tools:
            if topic in f"{name} {description}".lower():
                place = PLACE.search(question)
                value = place.group(1) if place else "Paris"
                arguments = {}
                for key, kind in (schema.get("properties") or {}).items():
                    if key in (schema.get("required") or ()) or kind.get("type") == "string":
                        number = kind.get("type") in ("integer", "number")
                        arguments[key] = 1 if number else False if kind.get("type") == "boolean" else value
                return name, arguments
    return None


def reply(messages, tools):
    """What the model says: {"text": …} or {"tool": (name, arguments)}."""
    if messages and messages[-1][0] == "tool":
        results = []
        for role, text, _ in reversed(messages):
            if role != "tool":
                break
            results.append(text)
        return {"text": " ".join(reversed(results))}
    said = [text for role, text, _ in messages if role == "user"]
    question = said[-1] if said else ""
    lowered = question.lower()
    if tool := choose_tool(question, tools):
        return {"tool": tool}
    if "my name" in lowered and ("what" in lowered or "?" in question):
        names = [match.group(1) for text in said for match in NAME.finditer(text) if "?" not in text]
        return {"text": f"Your name is {names[-1]}." if names else "I do not know your name."}
    if "what did i say" in lowered:
        return {"text": f"You said: {said[-2]}" if len(said) > 1 else "You said nothing before."}
    if match := NAME.search(question):
        return {"text": f"Hello {match.group(1)}, nice to meet you."}
    return {"text": f"You said: {question}"}


def completion_tokens(answer):
    if "tool" in answer:
        name, arguments = answer["tool"]
        return tokens(name + compact(arguments))
    return tokens(answer["text"])


def pieces(text):
    """A text as a stream sends it: word by word."""
    return re.findall(r"\S+\s*|\s+", text) or [""]


class Stub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    key = None
    log_file = None
    log_lock = threading.Lock()

    def log_message(self, *_):
        pass

    def authorized(self):
        if self.key is None:
            return True
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        given = (bearer, self.headers.get("x-api-key", ""))
        return any(hmac.compare_digest(value.encode("utf-8", "replace"), self.key) for value in given)

    def record(self, status, body=None, usage=None):
        if self.log_file is None:
            return
        body = body or {}
        offered = [(tool.get("function") or tool).get("name") for tool in body.get("tools") or ()]
        line = {"path": self.path, "status": status, "model": body.get("model"), "stream": bool(body.get("stream"))}
        line |= {"messages": body.get("messages"), "tools": offered, "usage": usage, "authorized": status != 401}
        line |= {"headers": sorted(name.lower() for name in self.headers)}
        with self.log_lock, open(self.log_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def send_json(self, status, value, body=None, usage=None):
        self.record(status, body, usage)
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_events(self, events, body, usage):
        """Server-sent events in chunks: (event name or None, data)."""
        self.record(200, body, usage)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for name, data in events:
            lines = (f"event: {name}\n" if name else "") + f"data: {data if isinstance(data, str) else compact(data)}\n\n"
            encoded = lines.encode()
            self.wfile.write(f"{len(encoded):x}\r\n".encode() + encoded + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def fail(self, status, kind, message):
        self.send_json(status, {"type": "error", "error": {"type": kind, "message": message, "code": kind}})

    def read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self.send_json(200, {"status": "ok"})
        elif not self.authorized():
            self.fail(401, "invalid_api_key", "the key is wrong")
        elif path == "/v1/models":
            data = [{"id": name, "object": "model", "created": 0, "owned_by": "stub"} for name in MODELS]
            self.send_json(200, {"object": "list", "data": data})
        else:
            self.fail(404, "not_found_error", "no such path")

    def do_POST(self):
        data = self.read_body()
        if not self.authorized():
            self.fail(401, "invalid_api_key", "the key is wrong")
            return
        path = self.path.partition("?")[0]
        answer = {"/v1/chat/completions": self.openai, "/v1/messages": self.anthropic}.get(path)
        if answer is None:
            self.fail(404, "not_found_error", "no such path")
            return
        try:
            body = json.loads(data)
            messages = normalized(body["messages"], body.get("system"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.fail(400, "invalid_request_error", f"the request cannot be read: {error}")
            return
        identity = hashlib.sha256(data).hexdigest()[:24]
        answer(body, messages, identity)

    # OpenAI

    def openai(self, body, messages, identity):
        offered = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
        tools = [(f["name"], f.get("description") or "", f.get("parameters") or {}) for f in offered]
        said = reply(messages, tools if body.get("tool_choice") != "none" else [])
        spent, made = prompt_tokens(messages), completion_tokens(said)
        usage = {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made}
        usage["prompt_tokens_details"] = {"cached_tokens": 0}
        usage["completion_tokens_details"] = {"reasoning_tokens": 0}
        model = body.get("model") or DEFAULT_MODEL
        message, reason = {"role": "assistant", "content": said.get("text")}, "stop"
        if "tool" in said:
            name, arguments = said["tool"]
            function = {"name": name, "arguments": compact(arguments)}
            message["tool_calls"] = [{"id": f"call_{identity}", "type": "function", "function": function}]
            reason = "tool_calls"
        base = {"id": f"chatcmpl-{identity}", "created": int(time.time()), "model": model}
        base["system_fingerprint"] = "stub"
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
            whole = base | {"object": "chat.completion", "choices": [choice], "usage": usage}
            self.send_json(200, whole, body, usage)
            return

        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))

        def chunk(delta, finish=None):
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            part = base | {"object": "chat.completion.chunk", "choices": [choice]}
            return None, part | ({"usage": None} if include_usage else {})

        events = [chunk({"role": "assistant", "content": "" if "text" in said else None})]
        if "tool" in said:
            call = message["tool_calls"][0]
            events.append(chunk({"tool_calls": [{"index": 0, **call, "function": {"name": call["function"]["name"], "arguments": ""}}]}))
            events.append(chunk({"tool_calls": [{"index": 0, "function": {"arguments": call["function"]["arguments"]}}]}))
        else:
            events += [chunk({"content": piece}) for piece in pieces(said["text"])]
        events.append(chunk({}, reason))
        if include_usage:
            events.append((None, base | {"object": "chat.completion.chunk", "choices": [], "usage": usage}))
        events.append((None, "[DONE]"))
        self.send_events(events, body, usage)

    # Anthropic

    def anthropic(self, body, messages, identity):
        tools = [(t["name"], t.get("description") or "", t.get("input_schema") or {}) for t in body.get("tools") or ()]
        said = reply(messages, tools)
        usage = {"input_tokens": prompt_tokens(messages), "output_tokens": completion_tokens(said)}
        usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        if "tool" in said:
            name, arguments = said["tool"]
            block = {"type": "tool_use", "id": f"toolu_{identity}", "name": name, "input": arguments}
            reason = "tool_use"
        else:
            block, reason = {"type": "text", "text": said["text"]}, "end_turn"
        whole = {"id": f"msg_{identity}", "type": "message", "role": "assistant"}
        whole |= {"model": body.get("model") or "claude-haiku-4-5", "content": [block]}
        whole |= {"stop_reason": reason, "stop_sequence": None, "usage": usage}
        if not body.get("stream"):
            self.send_json(200, whole, body, usage)
            return
        start = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
        events = [("message_start", {"message": start})]
        if "tool" in said:
            empty = block | {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": compact(block["input"])}]
        else:
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        events.append(("content_block_start", {"index": 0, "content_block": empty}))
        events += [("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas]
        events.append(("content_block_stop", {"index": 0}))
        end = {"stop_reason": reason, "stop_sequence": None}
        events.append(("message_delta", {"delta": end, "usage": {"output_tokens": usage["output_tokens"]}}))
        events.append(("message_stop", {}))
        self.send_events([(name, {"type": name, **data}) for name, data in events], body, usage)


def main():
    parser = argparse.ArgumentParser(description="A deterministic stand-in for OpenAI's and Anthropic's APIs.")
    parser.add_argument("--port", type=int, default=8080, help="0: any free port")
    parser.add_argument("--key-env", metavar="NAME", help="the variable that holds the key requests must bear")
    parser.add_argument("--log", metavar="FILE", help="one JSON line for each request")
    options = parser.parse_args()
    if options.key_env:
        if not os.environ.get(options.key_env):
            sys.exit(f"model_stub: {options.key_env} is not set")
        Stub.key = os.environ[options.key_env].encode()
    Stub.log_file = options.log
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Stub)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
