"""The example agent in a real replica, through the real relay, with the stand-in model."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway import Gateway, Replica

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "manifests" / "example"
KEY = "sk-the-real-key"


@asynccontextmanager
async def stub(folder: Path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "scripts" / "model_stub.py"), "--port", "0", "--key-env", "K",
        "--log", str(folder / "requests.jsonl"), env={**os.environ, "K": KEY}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    line = (await asyncio.wait_for(process.stdout.readline(), 10)).decode()
    try:
        yield line.split()[-1]
    finally:
        process.kill()
        await process.wait()


def user(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


async def test_the_example_uses_tools_remembers_and_is_metered(folder):
    pytest.importorskip("langchain_openai")
    async with stub(folder) as url:
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))

        async def pass_on(reader, writer):
            up_reader, up_writer = await asyncio.open_connection(*address)

            async def pump(source, target):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
                target.close()

            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True)

        (folder / "s").mkdir()
        models = await asyncio.start_unix_server(pass_on, folder / "s" / "models.sock")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        replica = Replica(
            folder, {"agent": f"{EXAMPLE}/agent/graph.py:graph"}, supervised=True,
            env={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1"},
            relay=[{"address": "127.0.0.1", "port": port, "socket": "models.sock", "connect": None}],
        )  # fmt: skip
        project = json.loads((folder / "project.json").read_text())
        (folder / "project.json").write_text(json.dumps(project | {"paths": [str(EXAMPLE)], "workdir": str(EXAMPLE)}))
        async with replica, Gateway().connected(replica.path) as gateway:
            end = await gateway.run(user("What is the weather in Rome?"), thread_id="t", answer="chat")
            assert end["status"] == "success", replica.text()
            assert end["result"].startswith("It is ") and end["result"].endswith("in Rome.")
            assert len(end["usage"]) == 2 and not end["unmetered"]
            assert {(u["model"], u["provider"]) for u in end["usage"]} == {("gpt-4o-mini", "openai")}

            await gateway.run(user("My name is Ada."), thread_id="t", answer="chat")
            end = await gateway.run(
                user("What is my name?"), thread_id="t", answer="chat", stream_modes=["messages"]
            )
            assert end["result"] == "Your name is Ada."
            assert len(end["usage"]) == 1 and end["usage"][0]["input"] > 0 and not end["unmetered"]
            assert len(end["frames"].events("messages")) > 2
        models.close()
        requests = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
        assert [r["status"] for r in requests] == [200] * 4
        assert KEY not in (folder / "requests.jsonl").read_text()
        assert requests[-1]["stream"] and requests[0]["tools"] == ["get_weather", "get_time"]


def post(url: str, body: dict, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_the_stub_speaks_both_apis_and_checks_the_key(folder):
    async with stub(folder) as url:
        call = lambda *a, **k: asyncio.to_thread(post, *a, **k)  # noqa: E731
        body = {"model": "gpt-4o", **user("My name is Ada.")}
        assert (await call(f"{url}/v1/chat/completions", body))[0] == 401
        status, text = await call(f"{url}/v1/chat/completions", body, Authorization=f"Bearer {KEY}")
        assert status == 200 and json.loads(text)["model"] == "gpt-4o"
        assert json.loads(text)["usage"] == {
            "prompt_tokens": 8, "completion_tokens": 7, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
        }  # fmt: skip
        tool = {"name": "clock", "description": "the time", "input_schema": {"properties": {"city": {"type": "string"}}}}
        body = {"model": "claude-haiku-4-5", "tools": [tool], **user("What time is it in Rome?")}
        status, text = await call(f"{url}/v1/messages", body, **{"x-api-key": KEY})
        assert json.loads(text)["content"][0]["input"] == {"city": "Rome"}
        status, text = await call(f"{url}/v1/messages", body | {"stream": True}, **{"x-api-key": KEY})
        assert "event: message_start" in text and '"partial_json":"{\\"city\\":\\"Rome\\"}"' in text
        assert text.rstrip().endswith('{"type":"message_stop"}')
