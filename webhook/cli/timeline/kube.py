"""Changes in a cluster through kubectl: manifests in, objects out. See `manifests`."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from webhook.cli.kubectl import reply
from webhook.cli.watching.streams import WatchError

_LIMIT: Final = 60.0
_CREATING: Final = 'error when creating "STDIN": '

Tree = dict[str, Any]


class Kube:
    """kubectl with the options that choose a cluster, in one namespace ("": the context's)."""

    def __init__(self, options: Sequence[str], namespace: str) -> None:
        self._words = ["kubectl", *options]
        self._namespace = ["--namespace", namespace] if namespace else []

    async def create(self, *trees: Tree) -> list[Tree]:
        """Create objects; gives them as they are now. Raises `WatchError`."""
        made = []
        for tree in trees:
            out = await self._run("create", "-f", "-", "-o", "json", body=json.dumps(tree))
            made.append(json.loads(out))
        return made

    async def get(self, *words: str) -> Tree:
        """Read an object, or a list. Raises `WatchError`."""
        found: Tree = json.loads(await self._run("get", *words, "-o", "json"))
        return found

    async def delete(self, *words: str) -> None:
        """Delete, without waiting for the end."""
        await self._run("delete", *words, "--wait=false", "--ignore-not-found")

    def attach(self, pod: str) -> list[str]:
        """Give the words that attach to a Pod's standard input and output."""
        return [*self._words, *self._namespace, "attach", "--stdin", "--quiet", pod]

    async def _run(self, *words: str, body: str = "") -> bytes:
        pipe = asyncio.subprocess.PIPE
        try:
            # In a session of its own: Ctrl-C ends this command, and not what tidies up after it.
            process = await asyncio.create_subprocess_exec(
                *self._words, *self._namespace, *words, stdin=pipe, stdout=pipe, stderr=pipe,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise WatchError(f"kubectl: {error.strerror or error}") from error
        try:
            async with asyncio.timeout(_LIMIT):
                out, err = await process.communicate(body.encode())
        except TimeoutError:
            process.kill()
            raise WatchError(f"kubectl {words[0]}: no answer within {_LIMIT:g} s") from None
        if process.returncode:
            why = reply(process.returncode, b"", err.decode(errors="replace")).told
            raise WatchError(f"kubectl {words[0]}: {why.removeprefix(_CREATING)}")
        return out
