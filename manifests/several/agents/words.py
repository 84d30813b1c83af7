"""What the graphs share."""

from typing import Any

from langchain_core.messages import convert_to_messages


def last_text(messages: list[Any]) -> str:
    # An entrypoint's input comes as it was sent: no reducer has made messages of it.
    return str(convert_to_messages(messages)[-1].content)
