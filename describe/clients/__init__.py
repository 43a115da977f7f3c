"""Chat models behind OpenAI-compatible endpoints: asked once, paced, retried, paid for, remembered."""
