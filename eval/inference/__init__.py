"""What heads do in the running model, beside what their weights say."""
