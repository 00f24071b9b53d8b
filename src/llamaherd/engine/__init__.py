"""The inference engine: slots, continuous batching, sampling, stopping. No asyncio."""
