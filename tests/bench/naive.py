"""The obvious way, to compare with: FastAPI parses, the dictionary is copied, changed, compared.

In: a port, a certificate. Out: the same kind of patch for the same Pod, without the reasons,
limits, metrics or log.
"""

import base64
import copy
import sys
from typing import Annotated, Any

import jsonpatch
import uvicorn
from fastapi import Body, FastAPI

app = FastAPI()


@app.post("/mutate")
async def mutate(review: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    request = review["request"]
    after = copy.deepcopy(request["object"])
    change(after)
    patch = jsonpatch.make_patch(request["object"], after).to_string()
    response = {
        "uid": request["uid"],
        "allowed": True,
        "patchType": "JSONPatch",
        "patch": base64.b64encode(patch.encode()).decode(),
    }
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def change(pod: dict[str, Any]) -> None:
    """Make four changes of ours by hand."""
    spec = pod["spec"]
    for container in spec["containers"]:
        hook = {
            "exec": {
                "command": [
                    "/.podgrace/podgrace-helper",
                    "drain",
                    f"--container={container['name']}",
                    "--detect",
                ]
            }
        }
        container["lifecycle"] = {"preStop": hook}
        container.setdefault("readinessProbe", {"tcpSocket": {"port": 8000}})
        container.setdefault("volumeMounts", []).append(
            {"name": "podgrace", "mountPath": "/.podgrace", "readOnly": True}
        )
    spec["terminationGracePeriodSeconds"] = 90
    spec.setdefault("initContainers", []).insert(
        0, {"name": "podgrace", "image": "podgrace/podgrace-helper", "restartPolicy": "Always"}
    )
    spec.setdefault("volumes", []).append({"name": "podgrace", "emptyDir": {}})
    pod["metadata"].setdefault("annotations", {})["podgrace.io/status"] = "{}"


if __name__ == "__main__":
    port, directory = int(sys.argv[1]), sys.argv[2]
    uvicorn.run(
        app,
        port=port,
        ssl_certfile=f"{directory}/tls.crt",
        ssl_keyfile=f"{directory}/tls.key",
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=120,
    )
