"""Other people's checkpoints to ours and back."""
