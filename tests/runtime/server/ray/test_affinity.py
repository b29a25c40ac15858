"""runtime/server/ray/affinity.py: which replicas get which requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from binhdan.runtime.server.ray.affinity import Affinity, Placement, Ranking, affinity_of

REPLICAS = [f"replica {number}" for number in range(8)]


def chat(system: str, first: str, *more: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": first}]
    messages += [{"role": "user", "content": text} for text in more]
    return {"model": "m", "messages": messages} | fields


def test_turns_of_a_conversation_are_alike_and_others_are_not() -> None:
    first = affinity_of("an", chat("Ngắn.", "Xin chào"))
    next_turn = affinity_of("an", chat("Ngắn.", "Xin chào", "Tiếp đi", temperature=1))
    assert first and first.first_turn and next_turn == replace(first, first_turn=False)
    other = affinity_of("an", chat("Ngắn.", "Tạm biệt"))
    assert first and other and first.system == other.system and first.conversation != other.conversation
    long = affinity_of("an", chat("Dài.", "Xin chào"))
    assert long and first.system != long.system and first.conversation != long.conversation
    bình = affinity_of("bình", chat("Ngắn.", "Xin chào"))  # callers share no cache
    assert bình and first.system != bình.system and first.conversation != bình.conversation


def test_prompts_of_all_routes_are_found() -> None:
    for body in (
        {"prompt": "Hà Nội là"},
        {"prompt": ["Hà Nội là", "Huế là"]},
        {"input": "Xin chào", "instructions": "Ngắn."},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Xin chào"}]}]},
        {"system": [{"type": "text", "text": "Ngắn."}], "messages": [{"role": "user", "content": "Chào"}]},
        {"messages": [{"role": "system", "content": "Ngắn."}]},
    ):
        assert affinity_of("", body) is not None
    for nothing in (None, [], {}, {"messages": []}, {"messages": 3}, {"prompt": None}):
        assert affinity_of("", nothing) is None


def test_a_named_conversation_keeps_its_replica() -> None:
    one = affinity_of("", chat("Ngắn.", "Xin chào", prompt_cache_key="phiên 1"))
    assert one == affinity_of("", chat("Ngắn.", "Câu khác", prompt_cache_key="phiên 1"))


def first_replicas(affinities: list[Affinity], replicas: list[str]) -> list[str]:
    ranking = Ranking()
    return [ranking.rank(affinity, replicas)[0][0] for affinity in affinities]


def test_a_common_system_prompt_uses_all_replicas_evenly() -> None:
    affinities = [Affinity("all", f"conversation {number}") for number in range(800)]
    counts = Counter(first_replicas(affinities, REPLICAS))
    assert set(counts) == set(REPLICAS)
    assert max(counts.values()) < 160  # 100 on average


def test_a_rare_system_prompt_uses_few_replicas() -> None:
    affinities = [Affinity(f"system {n % 100}", f"conversation {n}") for n in range(2000)]
    firsts = first_replicas(affinities, REPLICAS)
    late = {one.system: set() for one in affinities}  # type: dict[str, set[str]]
    for affinity, first in list(zip(affinities, firsts, strict=True))[500:]:
        late[affinity.system].add(first)
    assert max(map(len, late.values())) == 1
    assert len(set().union(*late.values())) == len(REPLICAS)


def test_a_lost_replica_moves_its_conversations_only() -> None:
    affinities = [Affinity("all", f"conversation {number}") for number in range(400)]
    before = first_replicas(affinities, REPLICAS)
    after = first_replicas(affinities, REPLICAS[1:])
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved == before.count(REPLICAS[0])


def test_the_counts_are_bounded() -> None:
    ranking = Ranking()
    for number in range(10_000):
        group, others = ranking.rank(Affinity(f"system {number}", "c"), REPLICAS)
        assert sorted(group + others) == REPLICAS
    assert len(ranking._counts) <= 4096


# ---- placement ---------------------------------------------------------------------------------------------


def test_new_conversations_balance_the_replicas() -> None:
    placement, requests = Placement(8), dict.fromkeys(REPLICAS[:2], 0)
    for number in range(16):
        requests[placement.choose(Affinity("all", f"conversation {number}"), requests)] += 1
        assert abs(requests[REPLICAS[0]] - requests[REPLICAS[1]]) <= 2


def test_later_turns_go_where_the_conversation_is() -> None:
    placement, requests = Placement(8), dict.fromkeys(REPLICAS, 0)
    starts = [Affinity("all", f"conversation {number}") for number in range(64)]
    places = []
    for start in starts:
        places.append(placement.choose(start, requests))
        requests[places[-1]] += 1
    for name in REPLICAS:
        requests[name] = 4
    later = [replace(start, first_turn=False) for start in starts]
    assert [placement.choose(one, requests) for one in later] == places
    # A router that does not know a conversation chooses that of the hash, which most of them have.
    other = [Placement(8).choose(one, requests) for one in later]
    assert sum(one == two for one, two in zip(other, places, strict=True)) > 16


def test_a_busy_replica_is_passed_over() -> None:
    placement, requests = Placement(8), dict.fromkeys(REPLICAS, 0)
    start = Affinity("all", "conversation")
    place = placement.choose(start, requests)
    requests[place] = 8
    assert placement.choose(replace(start, first_turn=False), requests) == place
    requests[place] = 9
    assert placement.choose(replace(start, first_turn=False), requests) != place


def test_a_rare_system_prompt_stays_in_its_replica() -> None:
    """A few requests more are better than to compute the prompt again elsewhere."""
    placement, requests = Placement(8), dict.fromkeys(REPLICAS, 0)
    for number in range(100):
        placement.choose(Affinity(f"system {number}", "c"), requests)
    place = placement.choose(Affinity("rare", "1"), requests)
    requests[place] = 5
    assert placement.choose(Affinity("rare", "2"), requests) == place


def test_a_lost_replica_is_not_chosen() -> None:
    placement = Placement(8)
    start = Affinity("all", "conversation")
    place = placement.choose(start, dict.fromkeys(REPLICAS, 0))
    rest = [name for name in REPLICAS if name != place]
    assert placement.choose(replace(start, first_turn=False), dict.fromkeys(rest, 0)) in rest


def test_remembered_conversations_are_bounded() -> None:
    placement, requests = Placement(8), dict.fromkeys(REPLICAS[:2], 0)
    for number in range(70_000):
        placement.choose(Affinity("all", str(number)), requests)
    assert len(placement._replicas) <= 65_536
