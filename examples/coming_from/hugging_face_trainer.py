"""A script for the Trainer of Hugging Face. `hugging_face_scenario.py` is the same training as a scenario."""

import random

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainingArguments

GOOD, BAD = ["good", "fine", "great"], ["bad", "dull", "poor"]
WORDS = [*GOOD, *BAD, "the", "film", "was", "very", "not", "and"]


def reviews(seed, samples):
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(4, 12))) for _ in range(samples)]
    scores = [sum((w in GOOD) - (w in BAD) for w in text.split()) for text in texts]
    return Dataset.from_dict({"text": texts, "label": [int(score > 0) for score in scores]})


def encode(row):
    return {"input_ids": [1 + WORDS.index(word) for word in row["text"].split()]}


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1 + len(WORDS), 16, padding_idx=0)
        self.output = nn.Linear(16, 2)

    def forward(self, input_ids, labels=None):
        mask = (input_ids > 0).unsqueeze(-1)
        mean = (self.embedding(input_ids) * mask).sum(1) / mask.sum(1)
        logits = self.output(mean)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(rows):
    ids = [row["input_ids"].clone().detach() for row in rows]
    padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)
    return {"input_ids": padded, "labels": torch.stack([row["label"] for row in rows])}


def accuracy(prediction):
    return {"accuracy": np.mean(prediction.predictions.argmax(1) == prediction.label_ids)}


arguments = TrainingArguments(
    "out",
    num_train_epochs=10,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    learning_rate=0.01,
    weight_decay=0.01,
    lr_scheduler_type="cosine",
    warmup_ratio=0.1,
    eval_strategy="epoch",
    save_strategy="epoch",
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
)
trainer = Trainer(
    Classifier(),
    arguments,
    train_dataset=reviews(0, 800).map(encode).with_format("torch"),
    eval_dataset=reviews(1, 200).map(encode).with_format("torch"),
    data_collator=collate,
    compute_metrics=accuracy,
)
trainer.train()
