"""What the commands share that watch a cluster on one clock and draw what they saw.

| module        | one line                                                        |
|---------------|-----------------------------------------------------------------|
| `streams`     | watches of the API: through kubectl, or as a Pod                |
| `slices`      | what an EndpointSlice says. Pure                                |
| `disturbance` | the user's command that rolls what is watched                   |
| `axis`        | places on one time axis. Pure                                   |
| `page`        | templates of pages that open offline; needs `podgrace[prove]`   |

What was seen, and what it means, belongs in each command.
"""
