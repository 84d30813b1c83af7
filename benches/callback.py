"""What the runner's usage callback adds to a sync node that streams 1,000 chunks, in CPU milliseconds.

    callback.py [--repeat 9]

Needs langgraph. Prints one JSON line; exit 1 when it is over 100 ms.
"""
import argparse, asyncio, json, statistics, sys, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src" / "runner" / "python"))

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from rapidclaw_runner.frameworks.langgraph.usage import Usage, UsageCallback

args = argparse.ArgumentParser()
args.add_argument("--repeat", type=int, default=9)
a = args.parse_args()
WORDS = " ".join(["w"] * 500)  # the fake model streams the white space too


def stream(state):
    chunks = sum(1 for _ in GenericFakeChatModel(messages=iter([AIMessage(content=WORDS)])).stream("hi"))
    return {"messages": [AIMessage(content=str(chunks))]}


graph = StateGraph(MessagesState)
graph.add_node("stream", stream)
graph.add_edge(START, "stream")
graph = graph.compile()


async def cpu_ms(callbacks):
    begun = time.process_time()
    told = await graph.ainvoke({"messages": [("user", "hi")]}, {"callbacks": callbacks})
    return (time.process_time() - begun) * 1000, int(told["messages"][-1].content)


async def main():
    await cpu_ms([])  # imports
    floor, ours = [], []
    for _ in range(a.repeat):
        spent, chunks = await cpu_ms([])
        floor.append(spent)
        ours.append((await cpu_ms([UsageCallback(Usage(set(), 1))]))[0])
    added = statistics.median(ours) - statistics.median(floor)
    print(json.dumps({"chunks": chunks, "floor_ms": round(statistics.median(floor), 1), "added_ms": round(added, 1)}))
    sys.exit(added > 100)


asyncio.run(main())
