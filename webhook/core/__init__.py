"""The decision, pure: Pod + settings -> plan (every reason) -> JSON Patch operations.

No I/O, no clock, no framework. Each module takes values and returns new ones, and imports only what
stands above it here. A contract in pyproject.toml checks that; modules in one line do not import
each other.

    names, reasons                      the constants: names in a Pod, and the words of a decision
    launchers, arguments, balancer      how a command is read, and what it says about ports;
                                        which load balancers deregister late
    pod, profile                        what is read: a Pod's fields, and how to stop a server
    settings, resources, size, windows, virtual, wasm, spot  what author and operator want; what
                                        fits into a total; what is too big; where the helper cannot
                                        run, and which nodes go soon
    helper, probe, sidecar, restart, stops, pidone  what is written, and recognised later;
                                        what a hook does; who names PID 1
    status                              the annotation, and a container as it was before us
    decision                            the values that the steps hand to each other
    alone, ports                        which Pods are left alone; where requests arrive
    look, budget                        what is there; what the waits cost
    ladder, readiness, prestop, align, equip  the steps; each settles one thing
    write                               what was settled, as a plan with every reason
    plan                                the order of the steps
    patch, audit                        a plan as JSON Patch; which Pods slipped through
"""
