"""A policy that acts on request: an HTTP service on onnxruntime, with a page to look at it.

    POST /v1/act {"observation": [0.1, 0.2, 0.0, 0.3]}   ->   {"action": 1, "policy": "…"}

A request goes through `connection` (has it arrived, in time and size?), `guard` (who asks?), `application` (which path?), `schema`
(does it fit the spaces?), `service` (whose memory? at once or in the worker?) and `actor` (the graph). `source` brings newer
policies, `plays` and `stage` show the task. The service itself never imports torch.

Left out: several processes for one service (start several, behind a proxy), TLS (the proxy's), and training on what is seen.
"""
