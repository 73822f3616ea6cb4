import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Other people's clients are written for asyncio."""
    return "asyncio"
