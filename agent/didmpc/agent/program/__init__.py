"""The program process: one MPyC program, run between the agreed parties (session.md, section 1).

    bundle.py      the program and what it needs, as one value with a content hash
    imports.py     which files beside a program it imports
    arguments.py   which program arguments belong to MPyC and are refused
    wire.py        frames on the socket pair between the channel process and this process
    config.py      the first frame: who we are, and what was agreed
    mux.py         the socket pair as one asyncio transport per party
    exchanger.py   MPyC's message exchanger, with the checks that it lacks
    watch.py       whether the program computes or waits, and for whom
    codec.py       values that programs send each other, without pickle
    elements.py    MPyC's fields, groups and secure types as parts that travel
    bridge.py      gives MPyC its runtime
    outcome.py     how a run goes wrong, and what it cost
    traces.py      tracebacks without our own frames
    __main__.py    the entry of the process

Only `bridge`, `exchanger`, `codec` and `elements` import MPyC: it reads `sys.argv` and sets up a runtime
at import.
"""
