"""A script for Lightning. `lightning_scenario.py` is the same training as a scenario."""

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Spirals(Dataset):
    def __init__(self, seed, samples):
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 3, samples)
        radius = random.uniform(0.2, 1, samples)
        angle = 4 * radius + 2 * np.pi / 3 * self.labels + random.normal(0, 0.1, samples)
        points = radius * np.stack([np.cos(angle), np.sin(angle)])
        self.points = points.T.astype("float32")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.points[index], self.labels[index]


class Classifier(lightning.LightningModule):
    def __init__(self, units=64):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(nn.Linear(2, units), nn.ReLU(), nn.Linear(units, 3))

    def training_step(self, batch, _):
        points, labels = batch
        loss = nn.functional.cross_entropy(self.model(points), labels)
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        points, labels = batch
        logits = self.model(points)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.01)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


lightning.seed_everything(1)
trainer = lightning.Trainer(
    max_epochs=20,
    gradient_clip_val=1.0,
    callbacks=[EarlyStopping("val_loss", patience=5), ModelCheckpoint(monitor="val_loss")],
)
trainer.fit(
    Classifier(),
    DataLoader(Spirals(0, 900), batch_size=32, shuffle=True, num_workers=4),
    DataLoader(Spirals(1, 300), batch_size=32),
)
