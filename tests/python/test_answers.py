"""What a turn's answer is, and what it cost: never an earlier turn's."""

from __future__ import annotations

import json
import uuid

import pytest
from gateway import PROJECTS

GRAPHS = {name: f"{PROJECTS}/given.py:{name}" for name in ("answers", "added_answers", "paying", "returned")}


def say(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


ANSWERS = {
    "plain": "words",
    "parts": "words",
    "direct": "DIRECT",
    "direct_parts": "DIRECT",
    "preamble": "DIRECT",
    "tool_then_words": "words",
    "structured": '{"city":"Paris"}',
    "bare_structured": '{"city":"Paris"}',
    "human_last": "words",
    "silent": None,
    "empty": "",
}


@pytest.mark.parametrize("before", [None, "plain", "structured"])
async def test_answers_of_every_shape_on_new_and_on_known_threads(own_gateway, before):
    for way, result in ANSWERS.items():
        t = str(uuid.uuid4())
        if before is not None:
            await own_gateway.run(say(before), graph="answers", thread_id=t)
        end = await own_gateway.run(say(way), graph="answers", thread_id=t, answer="chat")
        assert (end["status"], end["result"]) == ("success", result), way


async def test_messages_without_ids_are_told_apart_too(own_gateway):
    t = str(uuid.uuid4())
    for text, result in (("say", "words"), ("be silent", None), ("say", "words"), ("be silent", None)):
        end = await own_gateway.run(say(text), graph="added_answers", thread_id=t, answer="chat")
        assert end["result"] == result, text


async def test_what_a_function_returns_is_this_turns_whether_or_not_it_said_it_before(own_gateway):
    t = str(uuid.uuid4())
    for _ in range(2):
        end = await own_gateway.run(say("say"), graph="returned", thread_id=t, answer="chat")
        assert end["result"] == "words"


async def test_what_an_earlier_attempt_spent_is_not_told_again(own_gateway):
    t = str(uuid.uuid4())
    await own_gateway.run(say("first"), graph="paying", thread_id=t)
    whole = await own_gateway.run(say("second"), graph="paying", thread_id=t)
    assert [usage["id"] for usage in whole["usage"]] == ["turn-2-1", "turn-2-2", "turn-2-3"]
    # The replica was lost after two steps: what came later was never committed.
    store, run_id = own_gateway.store, whole["run"]
    own = sorted(key for key, row in store.checkpoints.items() if json.loads(row["metadata"]).get("run_id") == run_id)
    for key in own[-2:]:
        del store.checkpoints[key]
    kept = {key[2] for key in store.checkpoints}
    store.writes = {key: write for key, write in store.writes.items() if key[2] in kept and key[2] != own[-3][2]}
    end = await own_gateway.run(None, graph="paying", thread_id=t, run=run_id, attempt=2, answer="chat")
    assert end["status"] == "success", end["error"]
    assert end["result"] == "part 3"
    assert sorted(usage["id"] for usage in end["usage"]) == ["turn-2-2", "turn-2-3"]
