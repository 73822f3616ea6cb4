"""The data model. Boundary types are frozen pydantic models, hot-path types msgspec structs."""
