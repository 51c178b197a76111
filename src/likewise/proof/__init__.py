"""The proof that processes, stops and micro-batches do not change what is learned."""
