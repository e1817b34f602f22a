"""The benchmark harness; standard library only.

``scenarios.py`` says what is measured, ``proxies.py`` how each proxy is started, ``process.py`` reads what a process used,
``load.py`` drives wrk and h2load, ``idle.py`` and ``many.py`` measure memory and a large configuration, ``report.py`` prints.
"""
