"""Synthetic requests of customers to a shop. All phrases are made up, so the data has no other source."""

from __future__ import annotations

import random

from aipcore.scenario import Sample

PHRASES = {
    "delivery": (
        "the parcel has not arrived", "the tracking page shows no progress", "the courier left it with a neighbour",
        "when will the driver come", "please send it to my office instead", "the box is stuck at the depot",
        "I was at home, but nobody rang", "can it arrive before Friday",
    ),
    "payment": (
        "my card was charged twice", "the invoice has the wrong amount", "the voucher was not accepted",
        "can I pay in three parts", "the bank refused the transfer", "I need a receipt with my company's name",
        "the discount is missing from the bill", "which cards do you take",
    ),
    "returns": (
        "I would like to send it back", "the zip broke after a day", "the colour does not match the picture",
        "it is too small for me", "where is the return label", "when do I get my refund",
        "one of the cups was cracked", "can I exchange it for another size",
    ),
    "account": (
        "I cannot log in", "the link to reset my password has expired", "please delete my data",
        "how do I change my address", "I want to stop the newsletter", "the code from the app is wrong",
        "my old orders have vanished from the page", "somebody else uses my profile",
    ),
}  # fmt: skip
"""The phrases of each class."""

BEGINNINGS = ("Hello,", "Good morning,", "Hi there,", "Dear team,", "")
NEUTRAL = (
    "I ordered a lamp last week", "order 4711 is the one", "I have written before", "the shop was recommended to me",
    "I look forward to your answer", "please call me", "many thanks for your help", "this is the second time",
)  # fmt: skip


def made_requests(count: int, seed: int) -> list[Sample]:
    """Return requests with the name of their class. Some also mention another matter; the first one is the class."""
    chance = random.Random(seed)
    classes = sorted(PHRASES)
    made = []
    for _ in range(count):
        label, other = chance.sample(classes, 2)
        parts = chance.sample(PHRASES[label], chance.randint(1, 2))
        if chance.random() < 0.3:
            parts.append(chance.choice(PHRASES[other]))
        for phrase in chance.sample(NEUTRAL, chance.randint(1, 2)):
            parts.insert(chance.randint(0, len(parts)), phrase)
        text = f"{chance.choice(BEGINNINGS)} {', and '.join(parts)}."
        made.append(Sample(inputs=text.strip(), targets=label))
    return made
