"""Stand-in until the branch `page` is merged."""

from fastapi import APIRouter

router = APIRouter()
