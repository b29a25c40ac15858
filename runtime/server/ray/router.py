"""Ray Serve's request router that prefers the replicas with a warm prefix cache."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from binhdan.runtime.server.ray.affinity import Affinity, Placement

# A preferred replica with so many more requests than the least busy one is passed over.
_IMBALANCE = 8


class AffinityRouter(RequestRouter):  # type: ignore[misc]  # mypy skips the sources of Ray
    """Sends a request with the keyword argument `affinity` to the replica that is likely to have its prompt
    and is not much busier than the others; other requests to the replica with the fewest requests."""

    def initialize_state(self, imbalance: int = _IMBALANCE, **_: Any) -> None:
        """`imbalance`: see _IMBALANCE; from `request_router_kwargs` of the deployment."""
        self._placement = Placement(imbalance)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Groups of replicas, preferred ones first. Inside a group Ray Serve takes the least busy one."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # wait when all replicas are full
        affinity = pending_request.kwargs.get("affinity")
        if not isinstance(affinity, Affinity) or len(candidate_replicas) < 2:
            return [candidate_replicas]
        names = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        requests = {name: self._requests(replica) for name, replica in names.items()}
        first = self._placement.choose(affinity, requests)
        return [[names[first]], [replica for name, replica in names.items() if name != first]]

    def _requests(self, replica: RunningReplica) -> int:
        """The replica's running and queued requests, as far as this router knows."""
        return self.replica_queue_len_cache.get(replica.replica_id) or 0
