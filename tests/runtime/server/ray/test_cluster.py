"""A real Ray cluster of three nodes and a real PostgreSQL server: streams, keys, bills, a killed node."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from postgres_server import PostgresServer, postgres
from ray_cluster import RayCluster, ray_cluster, wait_until
from serving import ANSWER, QUESTION, serving

pytestmark = pytest.mark.slow

USERS = 16
KEYS: dict[str, Any] = {f"user{n}": {"key": f"key-of-user-{n:02}"} for n in range(USERS)} | {
    "limited": {"key": "key-with-limits", "max_concurrent": 1, "tokens_per_minute": 300},
    "chủ": {"key": "key-of-admin", "admin": True},
}


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(database: PostgresServer) -> Iterator[RayCluster]:
    with ray_cluster(nodes=2) as cluster:
        cluster.serve(2, keys=KEYS, ledger=database.url)
        wait_until(lambda: cluster.engines() == 2, "two engines run")
        yield cluster


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[key]['key']}"}


def body(question: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **more}


def ask(cluster: RayCluster, key: str = "chủ", **more: Any) -> httpx.Response:
    url = f"{cluster.url}/v1/chat/completions"
    return httpx.post(url, json=body(**more), headers=headers(key), timeout=300)


def bills(cluster: RayCluster) -> dict[str, int]:
    """Answers in the ledger, by key."""
    report = httpx.get(f"{cluster.url}/v1/cost?by=key", headers=headers("chủ"), timeout=60).json()
    return {group["group"]: group["answers"] for group in report["data"]}


def test_answers_and_streams(cluster: RayCluster) -> None:
    response = ask(cluster)
    assert response.json()["choices"][0]["message"]["content"] == ANSWER
    assert len(response.headers.get_list("x-request-id")) == 1
    with httpx.stream(
        "POST",
        f"{cluster.url}/v1/chat/completions",
        json=body(stream=True),
        headers=headers("chủ"),
        timeout=300,
    ) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert stream.headers["content-type"].startswith("text/event-stream") and lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == ANSWER and len(chunks) > 3


def test_refusals_come_from_the_front(cluster: RayCluster) -> None:
    wrong = {"Authorization": "Bearer wrong-key"}
    url = f"{cluster.url}/v1/chat/completions"
    assert httpx.post(url, json=body(), headers=wrong, timeout=60).status_code == 401
    assert httpx.post(url, content=b"{", headers=headers("chủ"), timeout=60).status_code == 415
    assert ask(cluster, messages=[]).status_code == 400
    assert httpx.get(f"{cluster.url}/livez", timeout=60).json() == {"status": "ok"}
    assert httpx.get(f"{cluster.url}/readyz", timeout=60).json() == {"status": "ready"}


def test_both_replicas_answer_and_their_metrics_are_labelled(cluster: RayCluster) -> None:
    for number in range(12):
        assert ask(cluster, question=f"kể chuyện số {number}", max_tokens=2).status_code == 200

    def page() -> str:
        return httpx.get(f"{cluster.url}/metrics", headers=headers("chủ"), timeout=60).text

    def replicas() -> Counter[str]:
        found = re.findall(r'binhdan_answers_total{replica="(\w+)".*} (\S+)', page())
        counts: Counter[str] = Counter()
        for replica, value in found:
            counts[replica] += int(float(value))
        return counts

    wait_until(lambda: len(replicas()) == 2 and min(replicas().values()) >= 2, "both have answered", 60)


SYSTEM = "Bạn là trợ lý của một cửa hàng sách ở Hà Nội. Trả lời ngắn, lịch sự, bằng tiếng Việt. " * 2


def cached_share(url: str) -> float:
    """Of the prompt tokens of 16 conversations of three turns each, the share from the prefix cache."""
    prompt = cached = 0
    chats: list[list[dict[str, str]]] = [[{"role": "system", "content": SYSTEM}] for _ in range(16)]
    for turn in range(3):
        for number, messages in enumerate(chats):
            messages.append({"role": "user", "content": f"them dau: cau hoi so {number} {turn}"})
            request = {"messages": messages, "max_tokens": 8}
            response = httpx.post(
                f"{url}/v1/chat/completions", json=request, headers=headers("chủ"), timeout=300
            ).json()
            messages.append(response["choices"][0]["message"])
            prompt += response["usage"]["prompt_tokens"]
            cached += response["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached / prompt


def test_the_prefix_cache_hits_as_on_one_machine(cluster: RayCluster) -> None:
    shared = cached_share(cluster.url)
    with serving(keys=KEYS, context=512) as url:
        alone = cached_share(url)
    print(f"cached: {shared:.3f} with two engines, {alone:.3f} with one")
    assert alone > 0.3 and shared >= 0.9 * alone


def test_limits_hold_over_replicas(cluster: RayCluster) -> None:
    """One key, twenty requests at once with different prompts, so that both replicas get some."""
    outcomes: list[int] = []

    def one(number: int) -> None:
        outcomes.append(ask(cluster, "limited", question=f"câu số {number}", max_tokens=8).status_code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {200, 429} and 429 in outcomes
    assert bills(cluster)["limited"] == outcomes.count(200)


def test_a_killed_node(cluster: RayCluster) -> None:
    """16 users stream, each three answers, and one of two engines' nodes is killed. A user whose stream ends
    with an error event, or whose request gets 503, tries again. Each key has the bills of its answers."""
    before = bills(cluster)
    cut: Counter[str] = Counter()  # requests that ended with an error
    complete: Counter[str] = Counter()
    wrong: list[str] = []
    streaming = threading.Semaphore(0)

    def user(number: int) -> None:
        key = f"user{number}"
        for turn in range(3):
            for _ in range(20):
                ending = stream_once(cluster.url, key, f"kể chuyện {number} {turn}", streaming)
                if ending == "done":
                    complete[key] += 1
                    break
                if ending != "error":
                    wrong.append(ending)
                cut[key] += 1
                time.sleep(1)

    threads = [threading.Thread(target=user, args=(number,)) for number in range(USERS)]
    for thread in threads:
        thread.start()
    for _ in range(USERS):
        streaming.acquire(timeout=300)
    cluster.kill_node(cluster.nodes.pop())
    for thread in threads:
        thread.join()
    assert not wrong
    assert complete == {f"user{number}": 3 for number in range(USERS)}
    assert sum(cut.values()) >= 1
    after = bills(cluster)
    for key, count in complete.items():
        # None is lost. A cut one has a bill only if its node was killed between the bill and the last byte.
        assert count <= after[key] - before.get(key, 0) <= count + cut[key]
    billed = sum(after[key] - before.get(key, 0) for key in complete)
    print(f"{sum(complete.values())} answers, {sum(cut.values())} cut, {billed} bills")

    cluster.restore_node(engines=2)  # the node comes back
    assert ask(cluster).json()["choices"][0]["message"]["content"] == ANSWER


def stream_once(url: str, key: str, question: str, streaming: threading.Semaphore) -> str:
    """How a stream ended: "done" with all its tokens, "error" with an error event or status, or otherwise."""
    request = body(question, stream=True, max_tokens=48, ignore_eos=True)
    ending = "nothing"
    try:
        with httpx.stream(
            "POST", f"{url}/v1/chat/completions", json=request, headers=headers(key), timeout=300
        ) as stream:
            if stream.status_code != 200:
                stream.read()
                return "error" if stream.status_code == 503 else f"{stream.status_code} {stream.text}"
            for number, line in enumerate(stream.iter_lines()):
                if number == 6:
                    streaming.release()
                if '"error"' in line:
                    ending = "error"
                elif '"finish_reason":"length"' in line:
                    ending = "finished"
                elif line == "data: [DONE]":
                    return "done" if ending == "finished" else ending
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return f"cut after {ending}"
