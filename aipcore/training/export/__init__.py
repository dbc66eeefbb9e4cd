"""Export of models: SavedModels and other formats, and checks that their outputs match the model's."""
