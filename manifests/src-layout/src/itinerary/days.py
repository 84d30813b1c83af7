"""Dates in sentences."""

from dateutil import parser
from dateutil.relativedelta import relativedelta


def days(text: str, count: int) -> list[str]:
    """`count` days from the first date in `text` on."""
    first = parser.parse(text, fuzzy=True)
    return [(first + relativedelta(days=day)).strftime("%A %d %B") for day in range(count)]
