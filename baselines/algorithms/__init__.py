"""Domain-generalisation algorithms. Each wraps a method, any method, and changes how it learns or how it is tested."""
