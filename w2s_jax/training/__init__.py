"""Fine-tuning: data, losses, the train step, the loop, checkpoints."""
