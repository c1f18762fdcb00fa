"""A short stretch of visitors in the shop of `iserver/example`, played through the server's own protocol."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import Any

import aiohttp

PRODUCTS = ["lamp", "kettle", "bicycle", "umbrella"]
CHANNELS = ["direct", "email", "paid"]


@dataclass(frozen=True, slots=True)
class Played:
    """What was done, to be compared with what the tables say."""

    visitors: int
    impressions: int
    ratings: int


async def play(http: aiohttp.ClientSession, iserver: str, visitors: int, seed: int) -> Played:
    """Let visitors look at products, rate some of them, and put things into their carts.

    Args:
        http: Client session.
        iserver: Base URL of the impression server, prefix included.
        visitors: How many visitors come.
        seed: Decides how they behave; their ids are always fresh.
    """
    chance = random.Random(seed)
    impressions = ratings = 0
    for _ in range(visitors):
        device = f"example-{uuid.uuid4()}"
        product = chance.choice(PRODUCTS)
        impression = str(uuid.uuid4())
        await _post(
            http,
            f"{iserver}/features",
            {
                "args": {"deviceId": device, "channel": chance.choice(CHANNELS)},
                "impressionId": impression,
                "requests": {"RatingBox": {"product": product}, "ProductInfo": {}, "Search": {"query": product}},
            },
        )
        impressions += 1
        key = {"deviceId": device}
        if chance.random() < 0.6:
            rating = {"feature": "RatingBox", "event": "Rating", "impressionId": impression}
            await _post(http, f"{iserver}/signal", {"id": key, **rating, "args": {"stars": chance.randint(1, 5)}})
            ratings += 1
        if chance.random() < 0.3:
            cart = {"value": chance.randint(500, 9999) / 100, "sku": product}
            await _post(http, f"{iserver}/signal", {"id": key, "event": "AddToCart", "args": cart})
    return Played(visitors, impressions, ratings)


async def flush(http: aiohttp.ClientSession, iserver: str) -> None:
    """End all sessions now and write them to the warehouse."""
    await _post(http, f"{iserver}/cmd", {"action": "flushToWarehouse"})


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    async with http.post(url, json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {await answer.text()}")
