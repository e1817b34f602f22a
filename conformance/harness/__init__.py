"""The conformance harness: one case, two proxies, the differences.

A case (``case.py``) is read from YAML, its configuration expanded (``config.py``), its upstreams scripted
(``upstream_h1.py``, ``upstream_h2.py``), the proxy started (``proxy.py``), the steps played (``steps.py`` with the
clients ``client_h1.py``, ``client_h2.py`` and ``admin.py``) and everything seen made comparable (``normalise.py``).
``recording.py`` keeps what Envoy did, ``compare.py`` says what differs, ``cli.py`` drives it all.
"""
