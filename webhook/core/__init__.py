"""The decision, pure: Pod + settings -> plan (every reason) -> JSON Patch operations.

No I/O, no clock, no framework. Each module takes values and returns new ones, and imports only what stands above it here
(a contract in pyproject.toml holds both; modules of one line do not import each other):

    names, reasons                              the constants: names in a Pod, and the words of a decision
    launchers, arguments, balancer              how a command is read, and what it says of ports; which load balancers let go late
    pod, profile                                what is read: the Pod's fields, and how a server wants to be stopped
    settings, resources, size, windows          what the two want; a total's room; what is too much; what is Windows
    helper, probe, sidecar, restart, stops, pidone  what is written, and known again; what a hook does; who asks PID 1
    status                                      the annotation, and a container as it was before us
    decision                                    the values that the steps hand to each other
    alone, ports                                which Pods are left alone; where requests arrive
    look, budget                                what is there; what the waits cost
    ladder, readiness, prestop, align, equip    the steps, each of which settles one thing
    write                                       what was settled, as a plan with every reason
    plan                                        the order of the steps
    patch, audit                                a plan as JSON Patch; which Pods slipped through
"""
