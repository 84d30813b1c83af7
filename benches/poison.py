"""Well-behaved clients beside poisonous requests: how long each of them waits, and whether it is answered."""

import argparse
import json
import threading
import time
import urllib.error
import urllib.request

POISONS = ("exit", "segfault", "memory", "loop")


def ask(base: str, key: str, thread: str, message: str) -> tuple[int, str, float]:
    body = json.dumps({"thread_id": thread, "user_id": "bench", "message": message}).encode()
    request = urllib.request.Request(f"{base}/v1/chat", body, {"x-api-key": key, "content-type": "application/json"})
    begin = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=240) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    except OSError as error:
        status, text = 0, str(error)
    return status, text, time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--poisons", default=",".join(POISONS))
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    lock = threading.Lock()
    good: list[tuple[int, str, float]] = []
    bad: dict[str, list[tuple[int, str, float]]] = {}

    def behave(number: int) -> None:
        turn = 0
        while time.monotonic() < end:
            turn += 1
            answer = ask(given.base, given.key, f"good-{number}-{turn % 5}", f"turn {turn}")
            with lock:
                good.append(answer)

    def harm(name: str, number: int) -> None:
        answer = ask(given.base, given.key, f"poison-{number}", name)
        with lock:
            bad.setdefault(name, []).append(answer)

    threads = [threading.Thread(target=behave, args=(number,)) for number in range(given.clients)]
    poisons = given.poisons.split(",")
    for thread in threads:
        thread.start()
    number = 0
    while (left := end - time.monotonic()) > 0:
        if left > given.every / 2:
            harming = threading.Thread(target=harm, args=(poisons[number % len(poisons)], number))
            harming.start()
            threads.append(harming)
        number += 1
        time.sleep(min(given.every, max(left, 0)))
    for thread in threads:
        thread.join()

    waits = sorted(wait for _, _, wait in good)
    at = lambda part: round(waits[min(len(waits) - 1, int(len(waits) * part))], 2)  # noqa: E731
    print(
        json.dumps(
            {
                "turns": len(good),
                "failed": [text[:200] for status, text, _ in good if status != 200],
                "p50_s": at(0.5),
                "p99_s": at(0.99),
                "longest_s": round(waits[-1], 2),
                "poisons": {
                    name: {
                        "sent": len(answers),
                        "answered": sum(status == 200 for status, _, _ in answers),
                        "longest_s": round(max(wait for _, _, wait in answers), 2),
                    }
                    for name, answers in sorted(bad.items())
                },
            }
        )
    )


main()
