"""The backend of PyTorch; what a user sees of it is `interface`."""
