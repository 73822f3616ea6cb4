"""Astra's HTTP server: API keys, metrics, the front-ends' host.

    from astra_gateway.plugin import serve_gateway

    async with Astra.from_config() as astra, serve_gateway(astra) as url:
        ...

`astra_gateway.app.create_app` gives the same as an ASGI application to mount in another one.
"""
